"""Identifies the state folder that memory files belong to, from the files alone.

    canary-gateway-ID.owner     names the owner of the others; locked while that gateway's control process lives
    canary-gateway-ID.*         the boards, and the rings, whose records wait to be written to that state folder

ID is random and kept in the state folder (`gateway.shm.claim`): containers that share /dev/shm may have equal paths.
"""

import contextlib
import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gateway.shm.segment import memory_folder

PREFIX: Final = "canary-gateway-"
ID_FILE: Final = "memory-id"
RING: Final = ".ring"
BOARD: Final = ".switchboard"
MEASURED: Final = ".measured"
BOARDS: Final = (".scoreboard", ".ratecounters", ".rateshares", MEASURED)  # never taken over by a later run
OWNER: Final = ".owner"
LOCK_TIMEOUT_S: Final = 1.0  # another gateway that starts may hold the lock while it removes leftovers
_ID: Final = re.compile(r"[0-9a-f]{32}")
_NAMESPACE: Final = "/proc/self/ns/mnt"


def measured_path(board: Path) -> Path:
    """Return the path of the file with the workers' measurements of versions, beside one of the boards."""
    return board.with_suffix(MEASURED)


@dataclass(frozen=True, slots=True)
class Owner:
    """The gateway that made some memory files. `folder`, `device`, `inode`: its state folder. `namespace`: the mount
    namespace in which its paths are valid.
    """

    folder: str
    device: int
    inode: int
    host: str
    pid: int
    namespace: str

    @classmethod
    def here(cls, folder: Path) -> "Owner":
        """Return the owner for this process and this state folder."""
        status = folder.stat()
        path = str(folder.resolve())
        return cls(path, status.st_dev, status.st_ino, socket.gethostname(), os.getpid(), _namespace())

    def is_of(self, folder: Path) -> bool:
        """Whether its state folder is `folder`, perhaps moved since, and not a copy (same device and inode)."""
        status = folder.stat()
        return (self.device, self.inode) == (status.st_dev, status.st_ino)

    def is_at(self, folder: Path) -> bool:
        """As `is_of`, and the path is unchanged too: otherwise the inode may have been reused by another folder."""
        return self.is_of(folder) and self.folder == str(folder.resolve())

    def still_wants(self, name: str, other_than: Path | None = None) -> bool:
        """Whether its folder (other than `other_than`) is there and has the id of the files called `name`."""
        folder = Path(self.folder)
        try:
            if not self._visible or (other_than is not None and folder.samefile(other_than)):
                return False
            return name == f"{PREFIX}{read_id(folder)}"
        except (OSError, ValueError):  # a folder that cannot be read may be wanted
            return False

    def is_gone(self, name: str) -> bool:
        """Whether the files called `name` are certainly no longer needed.

        True if its folder was deleted or has another id by now. A folder on a file system that is not mounted here, or
        in another container, may come back.
        """
        folder = Path(self.folder)
        if not self._visible:
            return False
        try:
            if not folder.exists():
                return _nearest(folder).stat().st_dev == self.device
            status = folder.stat()
            same = (status.st_dev, status.st_ino) == (self.device, self.inode)
            return same and read_id(folder) not in (None, name.removeprefix(PREFIX))
        except (OSError, ValueError):  # a folder that cannot be read may be wanted
            return False

    @property
    def _visible(self) -> bool:
        return self.namespace == _namespace()

    def __str__(self) -> str:
        return f"{self.folder} (process {self.pid} on {self.host})"


class OwnerFile:
    """The owner file of the memory files called `name`, opened and locked by this process until `close`.

    Raises BlockingIOError if another process still holds the lock after `within_s`.
    """

    def __init__(self, name: str, within_s: float = 0.0) -> None:
        self.path = memory_folder() / f"{name}{OWNER}"
        end = time.monotonic() + within_s
        while True:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(self._file), os.stat(self.path)):
                    return
            except FileNotFoundError:
                pass  # removed after it was opened
            except BlockingIOError:
                if time.monotonic() > end:
                    os.close(self._file)
                    raise
                time.sleep(0.01)
            os.close(self._file)

    def write(self, owner: Owner) -> None:
        """Make `owner` the owner of the files."""
        content = json.dumps(asdict(owner)).encode()
        os.pwrite(self._file, content, 0)
        os.ftruncate(self._file, len(content))

    def close(self) -> None:
        """Release the lock; remove the file if no memory files of this name are left."""
        if not files_of(self.path.name.removesuffix(OWNER)):
            self.path.unlink(missing_ok=True)
        os.close(self._file)


def owner_of(name: str) -> Owner | None:
    """Return the owner of the memory files called `name`; None if it cannot be read."""
    try:
        document = json.loads((memory_folder() / f"{name}{OWNER}").read_bytes())
        return Owner(**document)
    except (OSError, ValueError, TypeError):
        return None


def other_user_of(name: str) -> int | None:
    """Return the user id of the memory files called `name` if they are another user's; else None."""
    with contextlib.suppress(OSError):
        user = (memory_folder() / f"{name}{OWNER}").lstat().st_uid
        return user if user != os.geteuid() else None
    return None


def read_id(folder: Path) -> str | None:
    """Return the memory id in a state folder, or None if there is none. Raises OSError; ValueError if damaged."""
    try:
        text = (folder / ID_FILE).read_text().strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    if not _ID.fullmatch(text):
        raise ValueError(f"{folder / ID_FILE} is damaged: it should hold 32 hexadecimal digits")
    return text


def files_of(name: str) -> list[Path]:
    """Return this user's memory files called `name`, sorted, without the owner file."""
    return sorted(path for path in memory_folder().glob(f"{name}.*") if path.suffix != OWNER and _ours(path))


def names() -> Iterator[str]:
    """Yield the names (without suffix) of all gateways' memory files, sorted."""
    yield from sorted({path.name.partition(".")[0] for path in memory_folder().glob(f"{PREFIX}*.*")})


def _ours(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.lstat().st_uid == os.geteuid()
    return False


def _nearest(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.exists())


def _namespace() -> str:
    try:
        return os.readlink(_NAMESPACE)
    except OSError:
        return ""
