"""Virtual environments of other inference servers, made once and kept in `build/servers`.

Their requirements contradict the gateway's, so each has one of its own. Making one takes pip up to a minute.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parents[2] / "build" / "servers"
TRITON: Final = ("--no-deps", "nvidia-pytriton==0.7.0", "numpy<2")  # of it only the server's binary is used
MLSERVER: Final = ("--no-compile", "mlserver==1.7.1")


def environment(name: str, requirements: tuple[str, ...]) -> Path:
    """The virtual environment with these requirements. Without one the test is skipped, which fails in CI."""
    folder = FOLDER / name
    made = folder / "made"
    wanted = f"{sys.version_info[:2]} {requirements}"
    with _alone(name):
        if not made.exists() or made.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder, requirements)
            made.write_text(wanted)
    return folder


def _install(folder: Path, requirements: tuple[str, ...]) -> None:
    """With the pip of this environment where it has one: a new one takes some seconds more."""
    python = str(folder / "bin" / "python")
    has_pip = find_spec("pip") is not None
    _run(sys.executable, "-m", "venv", *(["--without-pip"] if has_pip else []), str(folder))
    pip = [sys.executable, "-m", "pip", "--python", python] if has_pip else [python, "-m", "pip"]
    _run(*pip, "install", "-q", *requirements)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """No other process makes it at the same time: the tests run in several."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        lines = (ran.stderr or ran.stdout).strip().splitlines() or ["it says nothing"]
        pytest.skip(f"{' '.join(command)}: {lines[-1]}")
