"""Removes memory files that killed gateways have left, if no gateway will need them.

Age does not matter: writes through a mapping do not update a ring's modification time, and clocks are set.
"""

import contextlib
from pathlib import Path

from gateway.errors import SettingsError
from gateway.shm.owner import BOARD, BOARDS, RING, OwnerFile, files_of, names, owner_of
from gateway.shm.ring import Ring
from gateway.shm.segment import is_held
from gateway.shm.stopped import stopped_on


def remove_leftovers(own: str) -> None:
    """Remove memory files that no process holds and no state folder needs, except those called `own`.

    Called at the start of a gateway.
    """
    for name in names():
        if name != own:
            with contextlib.suppress(OSError):  # its gateway runs, or it is another user's
                _remove(name)


def _remove(name: str) -> None:
    owner = owner_of(name)
    held = None if owner is None else OwnerFile(name)
    try:
        files = files_of(name)
        if any(is_held(path) for path in files):
            return
        gone = owner is not None and owner.is_gone(name)
        for path in files:
            if gone or _is_of_no_use(path, known=owner is not None):
                path.unlink(missing_ok=True)
    finally:
        if held is not None:
            held.close()


def _is_of_no_use(path: Path, *, known: bool) -> bool:
    """Whether no gateway needs the file's content. `known`: we hold its owner's lock, so no one is creating it."""
    if path.suffix in BOARDS:
        return True
    if path.suffix[1:].isdigit():  # unfinished: its creator was killed
        return known
    try:
        if path.suffix == BOARD:
            return not stopped_on(path)
        return path.suffix == RING and Ring.attach(path).empty
    except SettingsError:
        return False  # of another release of the gateway, which may need it
