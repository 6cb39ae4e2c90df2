"""A staged version holds exactly the archive's files, within its limits, and nothing outside its folder."""

import hashlib
import os
from pathlib import Path

import pytest

from gateway.control.proposals import staged_version
from gateway.control.proposals.staged_version import (
    MAX_FILES,
    OutOfSpace,
    StagedVersion,
    VersionFile,
    content_digest,
)
from gateway.errors import BodyTooLarge, InvalidRequest
from tests.control.proposals.test_tar_stream import archive, with_entry

MODEL = {"model.onnx": b"m" * 1300}
LIMIT = 10_000


def stage(tmp_path: Path, content: bytes, limit: int = LIMIT) -> StagedVersion:
    staged = StagedVersion(tmp_path / "staged", limit)
    try:
        staged.write(content)
        staged.finish()
    finally:
        staged.close()
    return staged


def test_writes_the_files_with_their_hashes(tmp_path: Path) -> None:
    files = MODEL | {"weights/part/w.bin": b"w" * 700, "labels.txt": b""}
    staged = stage(tmp_path, archive(files))
    there = {path.relative_to(staged.folder).as_posix(): path.read_bytes() for path in staged.folder.rglob("*.*")}
    assert there == files
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert staged.files == [VersionFile(name, len(files[name]), hashes[name]) for name in files]
    assert staged.total_bytes == 2000
    assert (staged.folder / "model.onnx").stat().st_mode & 0o111 == 0
    listed = "".join(f"{hashes[name]}  {name}\n" for name in sorted(files))
    assert content_digest(staged.files) == hashlib.sha256(listed.encode()).hexdigest()


def test_folders_without_files_are_not_made(tmp_path: Path) -> None:
    staged = stage(tmp_path, with_entry("a/b/c", type=b"5")[:512] + archive(MODEL | {"deep/w": b"1"}))
    assert sorted(entry.name for entry in staged.folder.iterdir()) == ["deep", "model.onnx"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (archive(MODEL | {"../evil": b"1"}), "leads out of the version's folder"),
        (archive(MODEL | {"a/../../evil": b"1"}), "leads out of the version's folder"),
        (archive(MODEL | {"/tmp/evil": b"1"}), "leads out of the version's folder"),
        (with_entry("../evil", type=b"5"), "leads out of the version's folder"),
        (with_entry("evil", type=b"2", linkname=".."), "symbolic link"),
        (archive(MODEL | {"a/b/c/d/e": b"1"}), "more than 4 folders deep"),
        (archive(MODEL | {"a\nb": b"1"}), "do not belong in one"),
        (archive(MODEL | {"a\\b": b"1"}), "do not belong in one"),
        (archive(MODEL | {"a" * 201: b"1"}), "too long"),
        (archive(MODEL | {".hidden": b"1"}), "is hidden"),
        (archive(MODEL | {"model.yaml": b"1"}), "the settings belong to the model's folder"),
        (archive(MODEL | {"./remote.yaml": b"1"}), "by hand"),
        (archive(MODEL | {"./model.onnx": b"1"}), "holds model.onnx twice"),
        (archive(MODEL | {"model.onnx/weights": b"1"}), "both as a file and as a folder"),
        (archive({"2/model.onnx": b"1"}), "model.onnx must be at the top of the archive; it holds 2/model.onnx"),
        (archive({}), "it is empty"),
        (archive(MODEL)[:1024], "cut off"),
        (archive({f"f{number}": b"" for number in range(MAX_FILES + 1)}), f"more than {MAX_FILES} files"),
    ],
)
def test_refuses_with_nothing_outside_its_folder(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        stage(tmp_path, content)
    assert [entry.name for entry in tmp_path.iterdir()] == ["staged"]


@pytest.mark.parametrize(
    "files", [{"model.onnx": bytes(LIMIT + 1)}, {f"f{number}": bytes(999) for number in range(11)}]
)
def test_refuses_more_bytes_than_the_limit(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(BodyTooLarge, match=r"models\.max_proposal, 10000 bytes"):
        stage(tmp_path, archive(files))
    assert sum(path.stat().st_size for path in (tmp_path / "staged").iterdir()) <= LIMIT


def test_refuses_a_size_that_the_disk_does_not_have(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    size = free.f_bavail * free.f_frsize - staged_version.MIN_FREE_BYTES // 2
    with pytest.raises(OutOfSpace, match="must leave 256 MiB"):
        stage(tmp_path, with_entry("model.onnx", size=size), limit=1 << 60)
