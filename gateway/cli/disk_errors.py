"""Says in one line what the disk refuses."""

import sqlite3
import tempfile
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
        raise CommandError(not_written(out, error)) from None


@contextmanager
def told_later(problems: list[str]) -> Iterator[None]:
    """Add what a CommandError says to `problems` instead, so that the command can do the rest before it fails."""
    try:
        yield
    except CommandError as error:
        problems.append(error.message)


@contextmanager
def told_of_temporary_files() -> Iterator[None]:
    """Raises CommandError where there is no room for the database that feedback is sorted in."""
    try:
        yield
    except sqlite3.OperationalError as error:
        folder = Path(tempfile.gettempdir())
        raise CommandError(f"{not_written(folder, error)}; set $TMPDIR to a folder with more room") from None


def not_written(out: Path, error: OSError | sqlite3.OperationalError) -> str:
    """What to say of the output `out`, which may be a folder that a file in it failed."""
    if isinstance(error, OSError) and error.strerror:
        within = f" ({error.filename})" if error.filename and str(error.filename) != str(out) else ""
        return f"{out} cannot be written: {error.strerror}{within}"
    return f"{out} cannot be written: {error}"
