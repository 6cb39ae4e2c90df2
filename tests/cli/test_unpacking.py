"""What a server sends as a version: told by its first bytes, in pieces of any size; hostile archives are refused."""

import gzip
import io
import os
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli.unpacking import PIECE_BYTES, Unpacker
from gateway.errors import RequestError
from tests.backends.test_digest import scaling
from tests.control.proposals.test_tar_stream import archive, with_entry

MAX_BYTES = 1 << 20
MODEL = (Path(__file__).parents[2] / "models" / "digits" / "2" / "model.onnx").read_bytes()
FILES = {"model.onnx": MODEL, "weights/w.bin": os.urandom(3000)}


def unpacked(content: bytes, folder: Path, size: int = 1 << 16, max_bytes: int = MAX_BYTES) -> Path:
    with closing(Unpacker(folder, max_bytes)) as unpacker:
        for begin in range(0, len(content), size):
            unpacker.write(content[begin : begin + size])
        return unpacker.finish()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bomb(size: int) -> bytes:
    """An archive of a file of zeros, compressed a thousandfold."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("model.onnx")
        entry.size = size
        tar.addfile(entry, io.BytesIO(bytes(size)))
    return made.getvalue()


@pytest.mark.parametrize("size", [7, 512, 1 << 16])
@pytest.mark.parametrize(
    "content",
    [
        archive(FILES),
        gzip.compress(archive(FILES)),
        gzip.compress(archive(FILES)[:1000]) + gzip.compress(archive(FILES)[1000:]) + bytes(100),
        archive({f"run-42/{name}": content for name, content in FILES.items()}),
    ],
    ids=["tar", "gzip", "two members of gzip", "a folder at the top"],
)
def test_an_archive_gives_its_folder(content: bytes, size: int, tmp_path: Path) -> None:
    assert files_of(unpacked(content, tmp_path, size)) == FILES


@pytest.mark.parametrize("content", [MODEL, gzip.compress(MODEL)], ids=["plain", "gzip"])
def test_a_model_gives_its_file(content: bytes, tmp_path: Path) -> None:
    path = unpacked(content, tmp_path, 100)
    assert (path.name, path.read_bytes()) == ("model.onnx", MODEL)


def test_a_piece_may_hold_more_than_is_decompressed_at_once(tmp_path: Path) -> None:
    files = {"model.onnx": MODEL, "zeros": bytes(3 * PIECE_BYTES)}
    made = gzip.compress(archive(files))
    assert len(made) < 1 << 16
    assert files_of(unpacked(made, tmp_path, max_bytes=4 * PIECE_BYTES)) == files


def test_weights_in_other_files_need_an_archive(tmp_path: Path) -> None:
    model = scaling(tmp_path / "made" / "net.onnx", 2.0, "net.weights")
    with pytest.raises(RequestError, match=r"weights in other files, such as 'net\.weights'"):
        unpacked(model.read_bytes(), tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"no model", "neither a complete ONNX file nor a tar archive"),
        (MODEL[:-10], "neither a complete ONNX file nor a tar archive"),
        (b"<!doctype html><title>Sign in</title>", "a page, not a model"),
        (b"PK\x03\x04" + bytes(600), "zip archive"),
        (archive(FILES)[:2000], "is cut off"),
        (gzip.compress(archive(FILES))[:-20], "is cut off"),
        (gzip.compress(archive(FILES)) + b"rest", "compression is damaged"),
        (gzip.compress(gzip.compress(archive(FILES))), "neither a complete ONNX file"),
        (archive({"../evil": b"x"}), "leads out of the version's folder"),
        (archive({"a/../../evil": b"x"}), "leads out of the version's folder"),
        (archive({"/tmp/evil": b"x"}), "leads out of the version's folder"),
        (archive({"model.yaml": b"x"}), "model.yaml cannot be part of a version"),
        (with_entry("evil", type=tarfile.SYMTYPE, linkname="/etc"), "is a symbolic link"),
        (with_entry("evil", type=tarfile.LNKTYPE, linkname="model.onnx"), "is a hard link"),
        (with_entry("evil", type=tarfile.CHRTYPE), "is a device"),
        (with_entry("evil", type=tarfile.FIFOTYPE), "is a FIFO"),
        (with_entry("model.onnx", size=1 << 40), "is larger than models.max_proposal"),
        (bomb(MAX_BYTES + 1), "is larger than models.max_proposal"),
        (gzip.compress(archive(FILES) + bytes(2 << 20)), "more than 1 MiB follows"),
        (MODEL + bytes(MAX_BYTES), "is larger than models.max_proposal"),
    ],
)
def test_what_is_no_version_is_refused_and_writes_nothing_outside(content: bytes, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(RequestError, match=says):
        unpacked(content, folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert sum(len(content) for content in files_of(folder).values()) <= MAX_BYTES
