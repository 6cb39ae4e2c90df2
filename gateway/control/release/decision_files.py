"""The files of the decision log: one that is appended to, and sealed ones before it, which a start need not read.

STATE/decisions.jsonl             the newest; at LARGEST bytes it is sealed and a new one begins
STATE/decisions-000000001.jsonl   sealed: never changes; the oldest are deleted beyond `retain` bytes

A file begins with the releases stopped at that time ("kind": "stopped"), so it alone tells what is stopped now.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

SEAL_BYTES: Final = 8 * 1024**2  # bytes at which a file is sealed
DEFAULT_RETAIN_BYTES: Final = 256 * 1024**2
DECISION: Final = "decision"
STOPPED: Final = "stopped"
_NAME: Final = re.compile(r"decisions-([0-9]{9,})\.jsonl")
log: Final = logging.getLogger("gateway.control.release")
Entry = dict[str, Any]


class DecisionFiles:
    """The decision files in `folder`. `retain`: bytes of sealed files to keep. Only one thread at a time may write."""

    def __init__(self, folder: Path, retain: int = DEFAULT_RETAIN_BYTES) -> None:
        self._folder = folder
        self._retain = retain
        self.newest = folder / "decisions.jsonl"

    @property
    def size(self) -> int:
        """Size of the newest file in bytes."""
        with contextlib.suppress(OSError):
            return self.newest.stat().st_size
        return 0

    def seal(self, stopped: Sequence[Entry], last: int) -> None:
        """Seal the newest file and begin another with the releases `stopped` now.

        `last`: sequence of the last decision so far. Raises OSError, after which the newest file is unchanged.
        """
        if not self.newest.exists():
            return
        begun = self.newest.with_suffix(".new")
        begun.write_bytes(orjson.dumps({"kind": STOPPED, "stops": stopped, "sequence": last}) + b"\n")
        numbers = [number for number, path in self._sealed() if not path.samefile(self.newest)]
        _name_too(self.newest, self._folder / f"decisions-{max(numbers, default=0) + 1:09}.jsonl")
        begun.replace(self.newest)
        self._make_room()

    def entries(self, *, whole: bool) -> Iterator[Entry]:
        """Yield the entries of the newest file in order; unless `whole`, only those in its last LARGEST bytes.

        Damaged lines are skipped, and their number is logged. Raises OSError.
        """
        with contextlib.suppress(FileNotFoundError):
            yield from _entries(self.newest, whole)

    def entries_before(self) -> Iterator[Entry]:
        """Yield the last entries of the file before the newest. They are for display only."""
        sealed = [path for _, path in self._sealed()]
        if sealed:
            yield from _entries(sealed[-1], whole=False)

    def _sealed(self) -> list[tuple[int, Path]]:
        found = ((_NAME.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted((int(match[1]), path) for match, path in found if match)

    def _make_room(self) -> None:
        kept = 0
        for _, path in reversed(self._sealed()):
            kept += path.stat().st_size
            if kept > self._retain:
                path.unlink(missing_ok=True)
                log.info("%s is deleted: records.retain_decisions is reached", path)


def _name_too(file: Path, name: Path) -> None:
    """Give `file` the new name `name`. If the file system has hard links, the old name stays too, so that there is a
    file under it at any moment.
    """
    with contextlib.suppress(FileExistsError):  # left by a run that was killed just here
        try:
            os.link(file, name)
        except FileExistsError:
            raise
        except OSError:
            file.rename(name)


def _entries(path: Path, whole: bool) -> Iterator[Entry]:
    odd = 0
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        if not whole and left > SEAL_BYTES:
            file.seek(left - SEAL_BYTES)
            file.readline()  # the rest of a line
        for line in file:
            entry = _entry(line)
            if entry is None:
                odd += 1
            else:
                yield entry
    if odd:
        log.warning("%s: %d lines are torn or damaged, and passed over", path, odd)


def _entry(line: bytes) -> Entry | None:
    """Parse a line; None if it is not a JSON object."""
    try:
        found = orjson.loads(line)
    except ValueError:
        return None
    return found if type(found) is dict else None
