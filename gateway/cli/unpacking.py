"""Unpacks what a server sends as a version: an ONNX file, a tar archive, or either compressed by gzip.

Which it is, is told by its first bytes: addresses of downloads often have no ending. The archive's entries are checked
as those of an uploaded version are, and nothing is written outside of the folder or beyond the limit.
"""

import zlib
from pathlib import Path
from typing import Final, Protocol

from gateway.backends.onnx_file import read_onnx_file
from gateway.cli.version_archive import MODEL_FILE
from gateway.control.proposals.staged_version import StagedVersion, too_large
from gateway.errors import InvalidRequest, ModelUnavailable

SNIFFED_BYTES: Final = 512  # a tar archive's first block
PIECE_BYTES: Final = 1 << 20  # decompressed at a time
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_TAR_MAGIC: Final = slice(257, 262)


class Writer(Protocol):
    """`write` and `finish` raise InvalidRequest or BodyTooLarge about the content, and OSError about the disk."""

    def write(self, piece: bytes) -> None:
        """Write the next piece."""

    def finish(self) -> Path:
        """All has been written; returns the path of the version."""

    def close(self) -> None:
        """Close the file being written, if any."""


class Unpacker:
    """Unpacks into `folder`, which is there and empty. `max_bytes`: of the version's files together."""

    def __init__(self, folder: Path, max_bytes: int, *, compressed: bool = False) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._compressed = compressed
        self._first = b""
        self._writer: Writer | None = None

    def write(self, piece: bytes) -> None:
        """As the writer's."""
        if self._writer is None:
            self._first += piece
            if len(self._first) < SNIFFED_BYTES:
                return
            piece = self._first
            self._writer = self._writer_for(piece)
        self._writer.write(piece)

    def finish(self) -> Path:
        """As the writer's."""
        if self._writer is None:
            self._writer = self._writer_for(self._first)
            self._writer.write(self._first)
        return self._writer.finish()

    def close(self) -> None:
        """As the writer's."""
        if self._writer is not None:
            self._writer.close()

    def _writer_for(self, first: bytes) -> Writer:
        if first.startswith(_GZIP) and not self._compressed:
            return _GzipWriter(Unpacker(self._folder, self._max_bytes, compressed=True))
        if first[_TAR_MAGIC] == b"ustar":
            return _TarWriter(self._folder / "version", self._max_bytes)
        if first.startswith(_ZIP):
            raise InvalidRequest("it is a zip archive; make it a tar archive: tar -C FOLDER -cz .")
        if first.lstrip()[:1] == b"<":
            raise InvalidRequest("it is a page, not a model; does the address need a key?")
        return _FileWriter(self._folder / MODEL_FILE, self._max_bytes)


class _GzipWriter:
    """Decompresses, a limited piece at a time, for the writer `inner`."""

    def __init__(self, inner: Writer) -> None:
        self._inner = inner
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def write(self, piece: bytes) -> None:
        while piece:
            if self._member.eof:
                if not (piece := piece.lstrip(b"\0")):  # tape blocks are padded
                    return
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                unpacked = self._member.decompress(piece, PIECE_BYTES)
            except zlib.error as error:
                raise InvalidRequest(f"its compression is damaged: {error}") from None
            self._inner.write(unpacked)
            piece = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def finish(self) -> Path:
        if not self._member.eof:
            raise InvalidRequest("it is cut off: the end of its compression is missing")
        return self._inner.finish()

    def close(self) -> None:
        self._inner.close()


class _TarWriter:
    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._staged = StagedVersion(folder, max_bytes)

    def write(self, piece: bytes) -> None:
        self._staged.write(piece)

    def finish(self) -> Path:
        """The folder with the model: the archive's, or the only one at its top."""
        self._staged.check_complete()
        top = list(self._staged.folder.iterdir())
        inside = len(top) == 1 and (top[0] / MODEL_FILE).is_file()
        return top[0] if inside else self._staged.folder

    def close(self) -> None:
        self._staged.close()


class _FileWriter:
    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._written = 0
        self._file = path.open("xb")

    def write(self, piece: bytes) -> None:
        self._written += len(piece)
        if self._written > self._max_bytes:
            raise too_large(self._max_bytes)
        self._file.write(piece)

    def finish(self) -> Path:
        self._file.close()
        if not self._written:
            raise InvalidRequest("it is empty")
        try:
            external = read_onnx_file(self._path).external
        except ModelUnavailable:
            raise InvalidRequest("it is neither a complete ONNX file nor a tar archive") from None
        if external:
            raise InvalidRequest(
                f"the model has weights in other files, such as {external[0]!r:.200}; send all of them as one tar"
                " archive: tar -C FOLDER -cz ."
            )
        return self._path

    def close(self) -> None:
        self._file.close()
