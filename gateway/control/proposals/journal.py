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
    """`staged`: the hidden folder; `version`: what it is renamed to, 0 as long as that is not decided; `inode`: its."""

    model: str
    staged: str
    version: int = 0
    inode: int = 0


class ProposalJournal:
    """The journal of one gateway, of at most one proposal. `state`: the state folder. For one thread at a time.

    The methods raise OSError.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._entry: _Entry | None = None

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
        self._write(replace(self._entry, version=version, inode=staged.stat().st_ino))
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
        self._entry = None
        self._file.unlink(missing_ok=True)

    def undo(self, is_named: IsNamed) -> None:
        """Remove what the proposal begun last has left, perhaps one of a killed process.

        A version that `is_named`, by the routing file or in force, stays. Removed versions are hidden first, so that no
        half of one is ever served.
        """
        entry = self._entry or self._read()
        if entry is not None:
            staged = Path(entry.staged)
            placed = staged.with_name(str(entry.version))
            if not staged.exists() and entry.version and _inode(placed) == entry.inode:
                if is_named((entry.model, entry.version)):
                    log.warning("version %d of '%s' was proposed, and is named already", entry.version, entry.model)
                else:
                    placed.rename(staged)
                    sync_path(staged.parent)
            remove_folder(staged)
        self.complete()

    def _write(self, entry: _Entry) -> None:
        replace_durably(self._file, orjson.dumps(asdict(entry)))
        self._entry = entry

    def _read(self) -> _Entry | None:
        try:
            entry = _Entry(**orjson.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            log.error("%s is damaged; a folder %s* beside a model's versions may be left", self._file, STAGED_PREFIX)
            return None
        return entry if Path(entry.staged).name.startswith(STAGED_PREFIX) else None


def undo_interrupted(state: Path, is_named: IsNamed) -> None:
    """Undo the proposal that a killed gateway left, if any; at the start, before versions are looked for."""
    try:
        ProposalJournal(state).undo(is_named)
    except OSError as error:
        log.error("a proposal that was interrupted cannot be removed: %s", error)


def next_version(model_folder: Path, taken: Collection[int]) -> int:
    """One more than every number that an entry of the folder has, and than those `taken`. Raises OSError."""
    there = (int(name) for name in os.listdir(model_folder) if name.isascii() and name.isdigit())
    return max([*there, *taken, 0]) + 1


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError:
        return -1
