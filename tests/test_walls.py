"""The walls between programs: worker, control process and offline tools share code, and none imports another's."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gateway"
WORKER = frozenset(
    [
        "worker",
        "call",
        "reply",
        "mirror",
        "pipeline",
        "recorder",
        "lines",
        "blame",
        "breaker",
        "loader",
        "deployment",
        "served",
        "instruments",
        "model_index",
        "time_budget",
        "tracing",
        "web.app",
        "web.connection",
        "web.cycle",
        "web.infer",
        "web.decoding",
        "web.received",
        "web.feedback",
        "web.metadata",
        "web.model_config",
        "web.access",
        "web.attributes",
        "web.outbox",
        "web.trace",
        "web.described",
        "web.repository",
        "web.sharing",
        "web.unserved",
        "web.wire",
    ]
)
CONTROL = frozenset(
    [
        "supervisor",
        "control",
        "observing",
        "opening",
        "orphans",
        "accepting",
        "agenda",
        "balance",
        "blame_deaths",
        "configuration",
        "editing",
        "fence",
        "fleet",
        "heartbeats",
        "inherited",
        "killers",
        "member",
        "ordering",
        "plans",
        "preparing",
        "recorded",
        "recording",
        "shutdown",
        "steered",
        "steering",
        "stopping",
        "tripping",
        "upkeep",
        "watchdog",
        "wishes",
        "release",
        "metrics",
        "records.journal",
        "records.ledger",
        "records.stream",
        "web.control",
        "settings.edit",
    ]
)
OFFLINE = frozenset(["analysis", "dataset", "replay", "records.joined", "records.feedback"])
PROGRAMS = {"worker": WORKER, "control": CONTROL, "offline": OFFLINE}
LOADED = "import sys, {module}; print(*sys.modules)"


def within(module: str, program: frozenset[str]) -> bool:
    """Whether a dotted name below the package is of the program: one of its modules, or in one of its rooms."""
    parts = module.split(".")
    return any(".".join(parts[:length]) in program for length in range(1, len(parts) + 1))


def imports() -> Iterator[tuple[str, str]]:
    """Each import of one module of the package by another, wherever in the file it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((module, name.removeprefix("gateway.")) for name in names if name.startswith("gateway."))


def loaded_by(module: str) -> set[str]:
    """What a new process has loaded once it has imported `module`."""
    command = [sys.executable, "-c", LOADED.format(module=module)]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_imports_another(program: str) -> None:
    others = [PROGRAMS[other] for other in PROGRAMS if other != program]
    wrong = [
        f"{module} imports {name}"
        for module, name in imports()
        if within(module, PROGRAMS[program]) and any(within(name, other) for other in others)
    ]
    assert wrong == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_programs_share_imports_none_of_them(program: str) -> None:
    every = frozenset[str]().union(*PROGRAMS.values(), {"commands", "presentation", "cli", "__main__"})
    shared = [(module, name) for module, name in imports() if not within(module, every)]
    assert [f"{module} imports {name}" for module, name in shared if within(name, PROGRAMS[program])] == []


def test_serve_loads_neither_the_worker_nor_onnx_runtime() -> None:
    loaded = loaded_by("gateway.commands.serving")
    assert "gateway.supervisor" in loaded
    ours = {module.removeprefix("gateway.") for module in loaded if module.startswith("gateway.")}
    assert sorted(module for module in ours if within(module, WORKER | OFFLINE)) == []
    assert "onnxruntime" not in loaded


@pytest.mark.parametrize("command", ["explain", "releases", "keys", "history", "edits"])
def test_commands_that_ask_load_neither_process(command: str) -> None:
    loaded = loaded_by(f"gateway.commands.{command}")
    ours = {module.removeprefix("gateway.") for module in loaded if module.startswith("gateway.")}
    assert sorted(module for module in ours if within(module, WORKER | OFFLINE)) == []
    assert {"onnxruntime", "gateway.supervisor", "gateway.control", "uvicorn"}.isdisjoint(loaded)
