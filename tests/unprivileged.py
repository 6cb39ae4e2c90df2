"""A user for whom permissions count: the tests may run as root, for whom they do not."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

NOBODY: Final = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")  # CI runs as root


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be another user than root; whoever is one already stays so."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that `as_nobody` may enter and owns: pytest's are for their user alone."""
    with tempfile.TemporaryDirectory() as name:
        if not os.geteuid():
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)
