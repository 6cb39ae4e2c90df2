"""Says in one line what the disk refuses."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.cli.refusal import CommandError


@contextmanager
def told_of_disk(out: Path) -> Iterator[None]:
    """Raises CommandError where the disk fails while `out` is made."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise CommandError(f"{out} is not written: {error}") from None
