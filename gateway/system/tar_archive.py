"""Tar archives of files, made as they are sent. The same files make the same archive: times and owners are left out."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 1 << 20
_END: Final = 2 * tarfile.BLOCKSIZE


class FileChanged(Exception):
    """A file is not as long as it was when the archive began. `path`: which one."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is being written")
        self.path = path


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file to send: its path here, its name in the archive, its size in bytes."""

    path: Path
    name: str
    size: int

    def header(self) -> bytes:
        """The tar header."""
        entry = tarfile.TarInfo(self.name)
        entry.size = self.size
        return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def archive_size(files: Sequence[ArchivedFile]) -> int:
    """Bytes of the whole archive."""
    return sum(len(file.header()) + file.size + -file.size % tarfile.BLOCKSIZE for file in files) + _END


def archive_chunks(files: Sequence[ArchivedFile]) -> Iterator[bytes]:
    """The archive's bytes. Raises FileChanged, OSError."""
    for file in files:
        yield file.header()
        with file.path.open("rb") as opened:
            left = file.size
            while left and (chunk := opened.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
            if left or opened.read(1):
                raise FileChanged(file.path)
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(_END)
