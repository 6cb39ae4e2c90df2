"""The floor plan: imports go only down, every module has its floor, and no file holds two concepts."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gateway"
FLOORS = {
    "errors": 0,
    "tensors": 0,
    "tasks": 0,
    "collecting": 0,
    "pressing": 0,
    "descriptors": 0,
    "settings": 1,
    "protocol": 1,
    "shm": 1,
    "priority": 1,
    "routing": 2,
    "serving": 2,
    "metrics": 2,
    "identity": 2,
    "instruments": 2,
    "logs": 2,
    "records": 3,
    "release": 4,
    "dataset": 4,
    "analysis": 4,
    "replay": 5,
    "time_budget": 3,
    "breaker": 2,
    "tripped": 1,
    "inherited": 5,
    "tripping": 6,
    "served": 4,
    "orders": 4,
    "pipe": 0,
    "durable": 0,
    "listener": 0,
    "loader": 4,
    "model_index": 5,
    "deployment": 6,
    "member": 5,
    "ordering": 6,
    "shutdown": 6,
    "plans": 5,
    "fleet": 7,
    "fence": 8,
    "balance": 5,
    "orphans": 5,
    "upkeep": 8,
    "killers": 8,
    "heartbeats": 8,
    "watchdog": 9,
    "preparing": 8,
    "blame_deaths": 6,
    "stopping": 5,
    "wishes": 8,
    "call": 5,
    "reply": 6,
    "lines": 7,
    "recorder": 8,
    "mirror": 9,
    "blame": 9,
    "tracing": 9,
    "recording": 5,
    "steered": 6,
    "agenda": 7,
    "steering": 8,
    "configuration": 6,
    "accepting": 6,
    "opening": 7,
    "pipeline": 10,
    "control": 10,
    "editing": 9,
    "recorded": 11,
    "observing": 12,
    "web": 13,
    "worker": 14,
    "supervisor": 15,
    "presentation": 15,
    "commands": 16,
    "cli": 17,
    "__main__": 18,
}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
LONGEST = 300


def room_of(name: str) -> str:
    """The room of a dotted module name below the package: `serving` for `serving.batcher`."""
    return name.split(".")[0]


def imported(path: Path) -> Iterator[str]:
    """The names below `gateway` that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [str(node.module)]
        yield from (name.removeprefix("gateway.") for name in names if name.startswith("gateway."))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_down(path: Path) -> None:
    room = path.parts[0].removesuffix(".py")
    if room == "__init__":
        assert list(imported(path)) == []
        return
    assert room in FLOORS, f"{path} has no floor: give its room one"
    for name in imported(path):
        below = FLOORS[room_of(name)] < FLOORS[room]
        assert below or room_of(name) == room, (
            f"{path} (floor {FLOORS[room]}) imports {name} (floor {FLOORS[room_of(name)]})"
        )


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_file_is_one_concept(path: Path) -> None:
    assert len((PACKAGE / path).read_text().splitlines()) <= LONGEST


def test_a_worker_loads_nothing_of_the_command_line() -> None:
    code = "import gateway.worker, sys; print(*(name for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "gateway.pipeline" in loaded
    unwanted = {
        "gateway.cli",
        "gateway.commands",
        "gateway.presentation",
        "gateway.release",
        "gateway.control",
        "rich",
        "httpx",
        "gateway.web.control",
        "prometheus_client",
        "pyarrow",
        "sqlite3",
        "opentelemetry",
        "requests",
    }
    assert unwanted.isdisjoint(loaded)
