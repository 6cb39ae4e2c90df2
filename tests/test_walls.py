"""Import boundaries between programs: worker, control process and offline tools never import each other."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gateway"
PROGRAMS = ("worker", "control", "offline")
LOADED = "import sys, {module}; print(*sys.modules)"


def imports(program: str) -> Iterator[tuple[Path, str]]:
    """Each import of a module of this package by a program's file, wherever in the file it stands."""
    for path in sorted((PACKAGE / program).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((path.relative_to(PACKAGE), name) for name in names if name.startswith("gateway."))


def loaded_by(module: str) -> set[str]:
    """What a new process has loaded once it has imported `module`; of this package also its rooms."""
    command = [sys.executable, "-c", LOADED.format(module=module)]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_imports_another(program: str) -> None:
    others = tuple(f"gateway.{other}." for other in PROGRAMS if other != program)
    assert [f"{path} imports {name}" for path, name in imports(program) if f"{name}.".startswith(others)] == []


def test_serve_loads_neither_the_worker_nor_onnx_runtime() -> None:
    loaded = loaded_by("gateway.cli.serve")
    assert "gateway.control.supervisor" in loaded
    assert {"gateway.worker", "gateway.offline", "onnxruntime", "opentelemetry", "pyarrow"}.isdisjoint(loaded)


def test_a_worker_loads_no_other_program() -> None:
    loaded = loaded_by("gateway.worker.__main__")
    assert "gateway.worker.pipeline" in loaded
    unwanted = {"rich", "httpx", "prometheus_client", "pyarrow", "sqlite3", "opentelemetry", "requests"}
    assert {"gateway.cli", "gateway.control", "gateway.offline", *unwanted}.isdisjoint(loaded)


@pytest.mark.parametrize("command", ["explain", "releases", "keys", "edits"])
def test_client_commands_load_no_server_code(command: str) -> None:
    loaded = loaded_by(f"gateway.cli.{command}")
    unwanted = {"gateway.worker", "gateway.offline", "gateway.control.supervisor", "gateway.control.control_plane"}
    assert {*unwanted, "onnxruntime", "uvicorn"}.isdisjoint(loaded)
