"""What a proposal has put on disk and not named in the routing file yet, so that a killed one is undone.

STATE/proposal.json holds it, not the models' folder: other hosts may share that, and have proposals of their own.
"""

import logging
import os
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from gateway.control.proposals.staged_version import remove_folder, sync_path
from gateway.settings.units import LARGEST_VERSION
from gateway.system.durable_files import replace_durably
from gateway.version_key import VersionKey

STAGED_PREFIX: Final = ".proposal-"
FILE: Final = "proposal.json"
IsNamed = Callable[[VersionKey], bool]
log: Final = logging.getLogger("gateway.control.proposals")


class VersionTaken(Exception):
    """The version's number has been taken meanwhile."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """`staged`: the hidden folder; `version`: what it is renamed to, 0 as long as that is not decided.

    `inode`, `mtime_ns`: the folder's. An inode is used again at once for a folder that somebody makes in its place.
    """

    model: str
    staged: str
    version: int = 0
    inode: int = 0
    mtime_ns: int = 0

    def __post_init__(self) -> None:
        numbers = (self.version, self.inode, self.mtime_ns)
        if not all(isinstance(number, int) for number in numbers) or not isinstance(self.model, str):
            raise ValueError("a field is of another type")
        if not Path(self.staged).name.startswith(STAGED_PREFIX):
            raise ValueError("the folder is no proposal's")


class ProposalJournal:
    """The journal of one gateway, of at most one proposal. `state`: the state folder. For one thread at a time.

    The methods raise OSError.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._entry: _Entry | None = None
        self._completed = False  # the file, if it is still there, says nothing

    def begin(self, model_folder: Path) -> Path:
        """Begin a proposal; returns the path of its hidden folder, which does not exist yet."""
        staged = model_folder.resolve() / f"{STAGED_PREFIX}{uuid4().hex}"
        self._write(_Entry(model_folder.name, str(staged)))
        return staged

    def place(self, version: int) -> None:
        """Rename the hidden folder to the version's, atomically and durably. Raises VersionTaken."""
        assert self._entry is not None, "begun"
        staged = Path(self._entry.staged)
        target = staged.with_name(str(version))
        inode, mtime_ns = _identity(staged)
        self._write(replace(self._entry, version=version, inode=inode, mtime_ns=mtime_ns))
        if os.path.lexists(target):
            raise VersionTaken
        try:
            staged.rename(target)
        except OSError as error:
            if not os.path.lexists(target):
                raise
            raise VersionTaken from error
        sync_path(staged.parent)

    def complete(self) -> None:
        """The proposal is named in the routing file, or nothing of it is left."""
        self._entry, self._completed = None, True
        self._file.unlink(missing_ok=True)

    def undo(self, is_named: IsNamed) -> None:
        """Remove what the proposal begun last has left, perhaps one of a killed process.

        A version that `is_named`, by the routing file or in force, stays. Removed versions are hidden first, so that no
        half of one is ever served.
        """
        entry = self._entry or (None if self._completed else self._read())
        if entry is not None:
            staged = Path(entry.staged)
            placed = staged.with_name(str(entry.version))
            if not staged.exists() and entry.version and _identity(placed) == (entry.inode, entry.mtime_ns):
                if is_named((entry.model, entry.version)):
                    log.warning("version %d of '%s' was proposed, and is named already", entry.version, entry.model)
                else:
                    placed.rename(staged)
                    sync_path(staged.parent)
            remove_folder(staged)
        self.complete()

    def _write(self, entry: _Entry) -> None:
        replace_durably(self._file, orjson.dumps(asdict(entry)))
        self._entry, self._completed = entry, False

    def _read(self) -> _Entry | None:
        try:
            return _Entry(**orjson.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            log.error("%s is damaged; a folder %s* beside a model's versions may be left", self._file, STAGED_PREFIX)
            return None


def undo_interrupted(state: Path, is_named: IsNamed) -> None:
    """Undo the proposal that a killed gateway left, if any; at the start, before versions are looked for."""
    try:
        ProposalJournal(state).undo(is_named)
    except OSError as error:
        log.error("a proposal that was interrupted cannot be removed: %s", error)


def next_version(model_folder: Path, taken: Collection[int]) -> int:
    """One more than every number that an entry of the folder has, and than those `taken`. Raises OSError.

    A number beyond the largest version, such as a date with a time, is no version's and does not count.
    """
    there = (int(name) for name in os.listdir(model_folder) if name.isascii() and name.isdigit())
    return max([*(number for number in there if number <= LARGEST_VERSION), *taken, 0]) + 1


def _identity(folder: Path) -> tuple[int, int]:
    """The folder's inode and when its names were changed last, in ns; a renaming of itself keeps both."""
    try:
        found = folder.stat()
    except OSError:
        return -1, -1
    return found.st_ino, found.st_mtime_ns
