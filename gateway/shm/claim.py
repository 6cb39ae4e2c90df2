"""Claims the memory files of a state folder for this gateway alone, and takes over those that earlier runs left.

Their id is created at the first start and kept in STATE/memory-id. A copy of the state folder has the same id: it is
refused while the original's gateway or its workers run, or while the original is still in its place.
"""

import contextlib
import hashlib
import logging
import secrets
from pathlib import Path
from typing import Final

from gateway.errors import SettingsError
from gateway.shm.owner import (
    BOARD,
    BOARDS,
    ID_FILE,
    LOCK_TIMEOUT_S,
    PREFIX,
    RING,
    Owner,
    OwnerFile,
    files_of,
    names,
    other_user_of,
    owner_of,
    read_id,
)
from gateway.shm.ring import Ring
from gateway.shm.segment import is_held, memory_folder
from gateway.shm.switchboard import Switchboard
from gateway.system.durable_files import replace_durably
from gateway.system.permissions import DENIED, owner_remedy

ID_BYTES: Final = 16
log: Final = logging.getLogger("gateway.shm")


class Claim:
    """The exclusive right to use the memory files called `name`, until `close` or this process's end."""

    def __init__(self, name: str, held: OwnerFile) -> None:
        self.name = name
        self.path = memory_folder() / name  # without suffix
        self._held = held

    def close(self) -> None:
        """Give up the claim."""
        self._held.close()


def claim(folder: Path) -> Claim:
    """Claim the memory files of a state folder; raise SettingsError if they belong to another gateway.

    Files that a killed run has left for this folder are renamed to the claimed name. Only one process at a time may
    call this for a folder.
    """
    try:
        known = read_id(folder)
    except (OSError, ValueError) as error:
        remedy = owner_remedy(error) if isinstance(error, OSError) else ""
        problem = f"{error}{remedy or '; restore it, or remove it: memory gets another name then'}"
        raise SettingsError(str(folder / ID_FILE), [problem]) from None
    name = f"{PREFIX}{known or secrets.token_hex(ID_BYTES)}"
    try:
        held = OwnerFile(name, LOCK_TIMEOUT_S)
    except OSError as error:
        raise _refused(folder, name, error) from None
    try:
        _check_not_copied(folder, name)
        held.write(Owner.here(folder))
        _gather(folder, name)
        for board in BOARDS:  # orphaned workers may have them mapped; counts start over
            (memory_folder() / f"{name}{board}").unlink(missing_ok=True)
        if known is None:
            _gather_former(folder, name)
            _write_id(folder, name)
    except BaseException:
        held.close()
        raise
    return Claim(name, held)


def memory_path(folder: Path) -> Path:
    """Return the path, without suffix, of the memory files of a state folder that has an id."""
    return memory_folder() / f"{PREFIX}{read_id(folder)}"


def former_name(folder: Path) -> str:
    """Return the name that memory files had up to issue 13: it was the same in two containers with the same path."""
    return f"{PREFIX}{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"


def _refused(folder: Path, name: str, error: OSError) -> SettingsError:
    if isinstance(error, BlockingIOError):
        return _copied(folder, name, f"of {owner_of(name) or 'another gateway'}, which runs")
    if (user := other_user_of(name)) is not None:
        return _copied(folder, name, f"of a gateway of another user (uid {user})")
    remedy = "; the folder must be writable by the gateway's user" if error.errno in DENIED else ""
    return SettingsError(str(memory_folder()), [f"{name} cannot be locked: {error.strerror}{remedy}"])


def _check_not_copied(folder: Path, name: str) -> None:
    owner = owner_of(name)
    if owner is None or owner.is_of(folder):
        return
    if owner.still_wants(name, other_than=folder):
        raise _copied(folder, name, f"of {owner}, which is still there")
    if any(is_held(path) for path in files_of(name)):
        raise _copied(folder, name, f"of {owner}, whose workers still run")


def _copied(folder: Path, name: str, of: str) -> SettingsError:
    problem = (
        f"state: {folder} has the memory id {of}; both would use {memory_folder() / name}. One is a copy of the other:"
        f" if this one is the copy, remove {folder / ID_FILE}, and it gets its own memory"
    )
    return SettingsError("gateway.yaml", [problem])


def _gather(folder: Path, name: str) -> None:
    """Rename files that this very folder has left under other ids, because its id was lost or never written."""
    for other in names():
        owner = owner_of(other) if other != name else None
        if owner is None or not owner.is_at(folder):
            continue
        with contextlib.suppress(BlockingIOError):
            held = OwnerFile(other)
            for path in files_of(other):
                _rename(path, other, name)
            held.close()


def _gather_former(folder: Path, name: str) -> None:
    """Rename rings that the previous release of the gateway has left. Only for a folder without an id, since by their
    names they may also be another container's.
    """
    former = former_name(folder)
    Switchboard.expire_heartbeat(memory_folder() / f"{former}{BOARD}")
    for path in files_of(former):
        if path.suffix == RING and _is_left(path):
            _rename(path, former, name)


def _is_left(path: Path) -> bool:
    """Whether the ring's gateway was killed: no process holds it, or its writer, a worker, lives in this container."""
    try:
        return not is_held(path) or Ring.attach(path).owner_lives
    except (OSError, SettingsError):
        return False


def _rename(path: Path, before: str, after: str) -> None:
    """Rename a ring, or a switchboard if the new name has none yet. Processes that have it mapped are not affected."""
    target = path.with_name(after + path.name.removeprefix(before))
    if path.suffix == RING or (path.suffix == BOARD and not target.exists()):
        path.rename(target)


def _write_id(folder: Path, name: str) -> None:
    try:
        replace_durably(folder / ID_FILE, (name.removeprefix(PREFIX) + "\n").encode(), mode=0o600)
    except OSError as error:  # full disk, say: the next start finds this run's files by their owner (`_gather`)
        log.warning("%s cannot be written; the next start will try again: %s", folder / ID_FILE, error.strerror)
