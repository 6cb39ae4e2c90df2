"""Writes an uploaded version into a hidden folder beside the model's versions, which the repository never serves."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from gateway.backends.content_verdicts import DEPTH
from gateway.backends.not_served import MODEL_FILE, REMOTE_FILE
from gateway.control.proposals.tar_stream import FileBegin, FileContent, FolderEntry, TarStream
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.system.durable_files import sync_folder

MAX_FILES: Final = 1000
MAX_RECORDED_FILES: Final = 100  # files named in the decision, each with its hash; the digest covers all
MAX_NAME_BYTES: Final = 200  # of one part of a path
SYNC_BYTES: Final = 64 << 20  # written between two syncs: a long queue of writes would delay those of decisions
MIN_FREE_BYTES: Final = 256 << 20  # left on the disk for all others, such as decisions and records
REFUSED_FILES: Final = {
    "model.yaml": "the settings belong to the model's folder and hold for all its versions; edit them there",
    REMOTE_FILE: "a version that another server runs is put into the repository by hand",
}


@dataclass(frozen=True, slots=True)
class VersionFile:
    """A file of a version: its path in the version's folder, its size in bytes, and its SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


class StagedVersion:
    """A version as it arrives, in `folder`, which the constructor creates. For one thread at a time.

    All methods may raise InvalidRequest or BodyTooLarge about the archive, and OSError about the disk.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.files: list[VersionFile] = []
        self._max_bytes = max_bytes
        self._tar = TarStream()
        self._written = 0
        self._unsynced = 0
        self._name = ""
        self._file = -1
        self._size = 0
        self._hash: Any = None
        folder.mkdir()

    def write(self, piece: bytes) -> None:
        """Write what the next piece of the archive holds."""
        for event in self._tar.feed(piece):
            if isinstance(event, FileContent):
                self._write(event.content)
            elif isinstance(event, FileBegin):
                self._begin(event)
            elif isinstance(event, FolderEntry):
                _parts_of(event.name)  # folders are made for files: thousands without one would be walked at each load
            else:
                self._end()

    def check_complete(self) -> None:
        """Check that the archive's end has arrived."""
        if not self._tar.complete:
            raise InvalidRequest("the tar archive is cut off: its end has not arrived")

    def finish(self) -> None:
        """Check that the version is complete, and sync it."""
        self.check_complete()
        paths = [file.path for file in self.files]
        if MODEL_FILE not in paths:
            there = f"it holds {', '.join(sorted(paths)[:5])}" if paths else "it is empty"
            raise InvalidRequest(
                f"{MODEL_FILE} must be at the top of the archive; {there}; make it with tar -C FOLDER -c ."
            )
        for folder, _, names in os.walk(self.folder):  # only now: an archive that is refused costs no sync
            for name in names:
                sync_path(Path(folder, name))
            sync_path(Path(folder))

    def close(self) -> None:
        """Close the file being written, if any. The folder stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @property
    def total_bytes(self) -> int:
        """Bytes written into files."""
        return self._written

    def evidence(self, sha256: str) -> dict[str, Any]:
        """What the decision is to say of it. `sha256`: of the model as it was tried."""
        return {
            "bytes": self.total_bytes,
            "files_in_all": len(self.files),
            "files": [asdict(file) for file in self.files[:MAX_RECORDED_FILES]],
            "sha256": content_digest(self.files),
            "model_sha256": sha256,
        }

    def _begin(self, entry: FileBegin) -> None:
        parts = _parts_of(entry.name)
        if not parts:
            raise InvalidRequest(f"the tar archive holds a file named {entry.name!r}")
        name = "/".join(parts)
        if name in REFUSED_FILES:
            raise InvalidRequest(f"{name} cannot be part of a version: {REFUSED_FILES[name]}; leave it out")
        if len(self.files) == MAX_FILES:
            raise InvalidRequest(
                f"the archive holds more than {MAX_FILES} files; a version needs its model and weights"
            )
        if self._written + entry.size > self._max_bytes:
            raise too_large(self._max_bytes)
        self._check_space(entry.size)
        if len(parts) > 1:
            self._make_folder(parts[:-1])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(self.folder / name, flags, 0o644)
        except (FileExistsError, IsADirectoryError):
            raise InvalidRequest(f"the archive holds {name} twice") from None
        self._name, self._size, self._hash = name, entry.size, hashlib.sha256()

    def _check_space(self, size: int) -> None:
        disk = os.statvfs(self.folder)
        free = disk.f_bavail * disk.f_frsize
        if free - size < MIN_FREE_BYTES:
            raise OutOfSpace(free, size)

    def _write(self, content: memoryview) -> None:
        self._hash.update(content)
        while content:
            written = os.write(self._file, content)
            content = content[written:]
            self._written += written
            self._unsynced += written
        if self._unsynced >= SYNC_BYTES:
            os.fdatasync(self._file)
            self._unsynced = 0

    def _end(self) -> None:
        self.close()
        self.files.append(VersionFile(self._name, self._size, self._hash.hexdigest()))

    def _make_folder(self, parts: tuple[str, ...]) -> None:
        try:
            self.folder.joinpath(*parts).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InvalidRequest(f"the archive holds {'/'.join(parts)} both as a file and as a folder") from None


class OutOfSpace(OSError):
    """The disk has `free` bytes, too few for a file of `size` bytes and for the others that write to it."""

    def __init__(self, free: int, size: int) -> None:
        super().__init__(
            f"{free >> 20} MiB are free, and a file of {size >> 20} MiB must leave {MIN_FREE_BYTES >> 20} MiB"
        )


def too_large(max_bytes: int) -> BodyTooLarge:
    """The error for an archive beyond the limit."""
    return BodyTooLarge(
        f"the version is larger than models.max_proposal, {max_bytes} bytes; raise it in gateway.yaml, or put the"
        " version into the model repository by hand"
    )


def content_digest(files: Iterable[VersionFile]) -> str:
    """The SHA-256, in hexadecimal, over the names and contents of all files, as `sha256sum` lists them by name."""
    lines = (f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def remove_folder(folder: Path) -> None:
    """Remove a hidden folder with all in it; it need not exist. Raises OSError."""
    if folder.exists():
        shutil.rmtree(folder)


def sync_path(path: Path) -> None:
    """Sync a file, or the names in a folder. Raises OSError."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_folder(opened)
    finally:
        os.close(opened)


def _parts_of(name: str) -> tuple[str, ...]:
    """The path's parts, without `.`; raises InvalidRequest unless it stays in the version's folder."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts:
        raise InvalidRequest(f"the name {name!r} leads out of the version's folder")
    if len(parts) > DEPTH:
        raise InvalidRequest(f"{name!r} is more than {DEPTH} folders deep")
    for part in parts:
        if not part.isprintable() or "\\" in part or len(part.encode()) > MAX_NAME_BYTES:
            raise InvalidRequest(f"the name {name!r:.300} holds characters that do not belong in one, or is too long")
        if part.startswith("."):
            raise InvalidRequest(f"{name!r} is hidden, by its dot; leave it out")
    return parts
