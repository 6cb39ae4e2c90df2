"""The tar reader: the same events whatever the archive's format and pieces; only files and folders pass."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.proposals.tar_stream import (
    MAX_HEADERS,
    MAX_TRAILING_BYTES,
    FileBegin,
    FileContent,
    FileEnd,
    FolderEntry,
    TarStream,
)
from gateway.errors import InvalidRequest

FILES = {
    "model.onnx": b"m" * 1300,
    "empty": b"",
    "weights/w.bin": bytes(range(256)) * 2,
    "ä" * 60 + "/" + "b" * 90: b"x",
}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def archive(files: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=kind) as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1.5  # a fraction is written as a pax record
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def with_entry(name: str = "x", **fields: object) -> bytes:
    entry = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


WHOLE = archive(FILES)


def read(content: bytes, size: int) -> tuple[list[str], dict[str, bytes], bool]:
    """The folders, the files, and whether the archive is complete, fed in pieces of `size` bytes."""
    stream, folders, files, name = TarStream(), list[str](), dict[str, bytes](), ""
    ended = True
    for begin in range(0, len(content), size):
        for event in stream.feed(content[begin : begin + size]):
            if isinstance(event, FolderEntry):
                folders.append(event.name)
            elif isinstance(event, FileBegin):
                assert ended
                name, files[event.name], ended = event.name, b"", False
            elif isinstance(event, FileContent):
                files[name] += bytes(event.content)
            else:
                assert isinstance(event, FileEnd)
                ended = True
    assert ended
    return folders, files, stream.complete


@pytest.mark.parametrize("size", [1, 511, 513, 1 << 20])
@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_reads_what_tarfile_writes_in_pieces_of_any_size(kind: int, size: int) -> None:
    files = (
        {name: content for name, content in FILES.items() if name.isascii()} if kind == tarfile.USTAR_FORMAT else FILES
    )
    assert read(archive(files, kind), size) == (["./"], files, True)


def test_a_ustar_name_with_a_prefix() -> None:
    name = f"{'a' * 80}/{'b' * 80}"
    assert list(read(archive({name: b"1"}, tarfile.USTAR_FORMAT), 512)[1]) == [name]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (with_entry(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'x' is a symbolic link"),
        (with_entry(type=tarfile.LNKTYPE, linkname="model.onnx"), "'x' is a hard link"),
        (with_entry(type=tarfile.CHRTYPE), "'x' is a device"),
        (with_entry(type=tarfile.BLKTYPE), "'x' is a device"),
        (with_entry(type=tarfile.FIFOTYPE), "'x' is a FIFO"),
        (with_entry(type=tarfile.GNUTYPE_SPARSE), "'x' is a sparse file"),
        (with_entry(type=b"Z"), "an entry of kind b'Z'"),
        (with_entry(type=tarfile.XHDTYPE, size=1 << 40), "a header of the tar archive has 1099511627776 bytes"),
        (with_entry(type=tarfile.GNUTYPE_LONGNAME, size=1 << 17), "65536 is the limit"),
        (with_entry(type=tarfile.XHDTYPE, size=9)[:512] + b"999 path=" + bytes(503), "a pax header"),
        (b"\x1f\x8b" + bytes(600), "is compressed"),
        (b"PK\3\4" + bytes(600), "is no tar archive"),
        (with_entry("x")[:100] + b"!" + with_entry("x")[101:], "is no tar archive"),
        (with_entry("\udcff"), "is not UTF-8"),
        (bytes(1024) + bytes(MAX_TRAILING_BYTES + 1), "follows the tar archive's end"),
        (with_entry("x")[:512] * (MAX_HEADERS + 1), f"more than {MAX_HEADERS} entries"),
    ],
)
def test_refuses_what_is_no_file_or_folder(content: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read(content, 1 << 20)


def test_a_sparse_file_in_pax_form_is_refused() -> None:
    record = b"22 GNU.sparse.major=1\n"
    header = tarfile.TarInfo("p")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    content = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + with_entry()
    with pytest.raises(InvalidRequest, match="sparse"):
        read(content, 512)


@pytest.mark.parametrize("cut", [1, 511, 512, 600, 1024, 2000])
def test_an_archive_that_is_cut_off_is_not_complete(cut: int) -> None:
    stream = TarStream()
    list(stream.feed(archive(FILES)[:cut]))
    assert not stream.complete


@given(position=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(position: int, value: int) -> None:
    content = bytearray(WHOLE)
    content[position] = value
    stream = TarStream()
    try:
        list(stream.feed(bytes(content)))
    except InvalidRequest:
        return
    assert stream.complete or value != WHOLE[position]
