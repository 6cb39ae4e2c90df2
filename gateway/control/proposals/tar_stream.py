"""Reads a tar archive as it arrives: regular files and folders only; every other kind of entry is refused.

Python's tarfile reads a header of any announced length into memory, needs a blocking file to read from, and its
unpacking has to be told what not to trust. Here the header fields of POSIX.1-2017 ustar and pax, and GNU's long names,
are all that is known. https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.errors import InvalidRequest

BLOCK_BYTES: Final = 512
MAX_EXTENSION_BYTES: Final = 65536  # of one pax header or long name
MAX_HEADERS: Final = 4000  # of files, folders and extensions
MAX_TRAILING_BYTES: Final = 1 << 20  # after the end: tar pads to its record size, 10 KiB by default
_GZIP: Final = b"\x1f\x8b"
_FILES: Final = (b"0", b"\0")
_FOLDER: Final = b"5"
_PAX: Final = b"x"
_PAX_GLOBAL: Final = b"g"
_LONG_NAME: Final = b"L"
_REFUSED_KINDS: Final = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a FIFO",
    b"K": "a link", b"S": "a sparse file",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileBegin:
    """A file of `size` bytes, whose content follows. `name` is as in the archive: check it."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class FileContent:
    """The next bytes of the file begun last."""

    content: memoryview


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file begun last is complete."""


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A folder. `name` is as in the archive: check it."""

    name: str


TarEvent = FileBegin | FileContent | FileEnd | FolderEntry


class TarStream:
    """Feed it the archive's bytes in pieces of any size. `complete`: the archive's end has been read."""

    def __init__(self) -> None:
        self.complete = False
        self._block = bytearray()  # the part of a header or extension that has arrived
        self._wanted = BLOCK_BYTES  # bytes of it in all
        self._extension = b""  # the kind of the extension being read; empty: a header
        self._extension_size = 0
        self._content_left = 0
        self._padding_left = 0
        self._long_name: str | None = None  # of the next entry
        self._pax: dict[str, str] = {}  # of the next entry
        self._headers = 0
        self._trailing = 0

    def feed(self, piece: bytes) -> Iterator[TarEvent]:
        """Yield what the piece completes. Raises InvalidRequest."""
        left = memoryview(piece)
        while left:
            if self.complete:
                self._trailing += len(left)
                if self._trailing > MAX_TRAILING_BYTES:
                    raise InvalidRequest("more than 1 MiB follows the tar archive's end")
                return
            if self._content_left:
                content, left = left[: self._content_left], left[self._content_left :]
                self._content_left -= len(content)
                yield FileContent(content)
                if not self._content_left:
                    yield FileEnd()
            elif self._padding_left:
                skipped = min(self._padding_left, len(left))
                self._padding_left -= skipped
                left = left[skipped:]
            else:
                missing = self._wanted - len(self._block)
                self._block += left[:missing]
                left = left[missing:]
                if len(self._block) == self._wanted:
                    block = bytes(self._block)
                    self._block.clear()
                    if self._extension:
                        self._read_extension(block[: self._extension_size])
                    else:
                        yield from self._read_header(block)

    def _read_header(self, block: bytes) -> Iterator[TarEvent]:
        if not any(block):
            self.complete = True
            return
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise InvalidRequest(f"the tar archive has more than {MAX_HEADERS} entries")
        if self._headers == 1 and block.startswith(_GZIP):
            raise InvalidRequest("the body is compressed; send the tar archive as it is")
        if _checksum(block) != _number(block[148:156], "checksum"):
            raise InvalidRequest("the body is no tar archive, or a damaged one; make it with tar -C FOLDER -c .")
        kind = block[156:157]
        size = _number(block[124:136], "size")
        if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME):
            self._begin_extension(kind, size)
            return
        yield from self._entry(kind, self._name(block), int(self._pax.get("size", size)))

    def _entry(self, kind: bytes, name: str, size: int) -> Iterator[TarEvent]:
        self._pax, self._long_name = {}, None
        if kind == _FOLDER or (kind == b"\0" and name.endswith("/")):
            yield FolderEntry(name)
        elif kind in _FILES:
            self._content_left, self._padding_left = size, -size % BLOCK_BYTES
            yield FileBegin(name, size)
            if not size:
                yield FileEnd()
        else:
            what = _REFUSED_KINDS.get(kind, f"an entry of kind {kind!r}")
            raise InvalidRequest(f"{name!r} is {what}; a version holds regular files and folders only")

    def _begin_extension(self, kind: bytes, size: int) -> None:
        if not 0 < size <= MAX_EXTENSION_BYTES:
            raise InvalidRequest(f"a header of the tar archive has {size} bytes; {MAX_EXTENSION_BYTES} is the limit")
        self._extension, self._extension_size = kind, size
        self._wanted = size + -size % BLOCK_BYTES

    def _read_extension(self, content: bytes) -> None:
        kind, self._extension, self._wanted = self._extension, b"", BLOCK_BYTES
        if kind == _LONG_NAME:
            self._long_name = _text(content.rstrip(b"\0"))
        elif kind == _PAX:
            self._pax = _pax_records(content)

    def _name(self, block: bytes) -> str:
        if self._long_name is not None:
            return self._long_name
        if "path" in self._pax:
            return self._pax["path"]
        name = _text(_until_nul(block[:100]))
        prefix = _text(_until_nul(block[345:500])) if block[257:263] == b"ustar\0" else ""
        return f"{prefix}/{name}" if prefix else name


def _pax_records(content: bytes) -> dict[str, str]:
    """The records `LENGTH KEY=VALUE\\n` that say where an entry goes and how long it is. Raises InvalidRequest."""
    records: dict[str, str] = {}
    while content:
        length, _, _ = content.partition(b" ")
        record, content = _cut(content, int(length) if length.isdigit() and len(length) < 6 else 0)
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise InvalidRequest("the tar archive holds a sparse file; make it with tar -C FOLDER -c . without -S")
        if key == b"path" or (key == b"size" and value.isdigit() and len(value) < 19):
            records[key.decode()] = _text(value)
        elif key == b"size":
            raise InvalidRequest(f"the tar archive says a size of {value[:40]!r}")
    return records


def _cut(content: bytes, length: int) -> tuple[bytes, bytes]:
    if not 4 < length <= len(content) or content[length - 1 : length] != b"\n":
        raise InvalidRequest("a pax header of the tar archive is damaged")
    return content[:length], content[length:]


def _checksum(block: bytes) -> int:
    return sum(block) - sum(block[148:156]) + 8 * ord(" ")


def _number(field: bytes, what: str) -> int:
    """An octal number, or GNU's base 256 for large ones."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise InvalidRequest(f"the body is no tar archive: {what} {digits[:20]!r} is no octal number")
    return int(digits or b"0", 8)


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"the name {name[:100]!r} in the tar archive is not UTF-8") from None
