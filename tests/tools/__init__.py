"""Virtual environments for other people's tools, which tests run unmodified. `python -m tests.tools` makes them.

They lie in `.tools/NAME` of the checkout, or below the folder that GATEWAY_TEST_TOOLS names. What a tool needs is
listed in `NAME.txt` beside this file; an environment that was made from another list is made anew.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

LISTS = Path(__file__).parent
ROOT = Path(os.environ.get("GATEWAY_TEST_TOOLS") or LISTS.parent.parent / ".tools")
_STAMP = "made-from"  # in an environment: the hash of its list; written last


def names() -> list[str]:
    return sorted(file.stem for file in LISTS.glob("*.txt"))


def tool(name: str) -> Path:
    """The folder with the programs of a tool, `python` among them; skips the test if they are not installed."""
    if not _is_made(name):
        pytest.skip(f"`{name}` is not installed: python -m tests.tools {name}")
    return ROOT / name / "bin"


def make(name: str) -> None:
    """Install what the tool's list names, unless it is installed. Raises CalledProcessError."""
    if _is_made(name):
        return
    installer = ROOT / "uv"
    if not (installer / "bin/uv").exists():
        _run(sys.executable, "-m", "venv", str(installer))
        _run(str(installer / "bin/pip"), "install", "-q", "uv")
    uv, folder = str(installer / "bin/uv"), ROOT / name
    (folder / _STAMP).unlink(missing_ok=True)
    _run(uv, "venv", "-q", "--clear", "--seed", "--python", sys.executable, str(folder))
    _run(uv, "pip", "install", "-q", "--python", str(folder / "bin/python"), "-r", str(LISTS / f"{name}.txt"))
    (folder / _STAMP).write_text(_hash(name))


def _is_made(name: str) -> bool:
    stamp = ROOT / name / _STAMP
    return stamp.is_file() and stamp.read_text() == _hash(name)


def _hash(name: str) -> str:
    return hashlib.sha256((LISTS / f"{name}.txt").read_bytes()).hexdigest()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
