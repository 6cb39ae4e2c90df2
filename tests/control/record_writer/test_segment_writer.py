"""Writing a stream's segments on a real disk: opening, writing, sealing, truncating, and recovery after a crash."""

import errno
import os
from pathlib import Path

import pytest

from gateway.control.record_writer.segment_writer import SegmentWriter
from gateway.records.segments import PREDICTIONS, segment_path, segments


def stream(folder: Path, size: int = 100) -> SegmentWriter:
    made = SegmentWriter(folder, PREDICTIONS, size)
    made.open()
    return made


def path(folder: Path, number: int, *, open: bool) -> Path:
    return segment_path(folder, PREDICTIONS, number, open=open)


def test_first_write_creates_the_folder_and_the_first_segment(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "records"
    stream(folder).write(b"one\n")
    assert path(folder, 1, open=True).read_bytes() == b"one\n"


def test_full_segment_is_sealed_and_followed_by_another(tmp_path: Path) -> None:
    writer = stream(tmp_path, size=8)
    writer.write(b"one\n")
    assert not writer.full
    writer.write(b"two\n")
    assert writer.full
    writer.seal()
    assert not path(tmp_path, 1, open=True).exists()
    writer.open()
    writer.write(b"three\n")
    assert path(tmp_path, 1, open=False).read_bytes() == b"one\ntwo\n"
    assert path(tmp_path, 2, open=True).read_bytes() == b"three\n"
    assert [each.name for each in segments(tmp_path, PREDICTIONS)] == [
        "predictions-000000001.jsonl",
        "predictions-000000002.jsonl.open",
    ]


def test_open_segment_of_a_former_run_is_continued(tmp_path: Path) -> None:
    stream(tmp_path).write(b"one\n")
    again = stream(tmp_path)
    assert (again.number, again.size) == (1, 4)
    again.write(b"two\n")
    assert path(tmp_path, 1, open=True).read_bytes() == b"one\ntwo\n"


def test_sealed_segment_is_never_written_to_again(tmp_path: Path) -> None:
    writer = stream(tmp_path)
    writer.write(b"one\n")
    writer.seal()
    assert stream(tmp_path).number == 2


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"", b""),
        (b"half", b""),
        (b"one\nhalf of a li", b"one\n"),
        (b"one\n" + b"x" * 200_000, b"one\n"),
        (b"one\ntwo\n" + bytes(70_000), b"one\ntwo\n"),  # what a power failure leaves: size without content
        (b"a" * 65_535 + b"\n", b"a" * 65_535 + b"\n"),
        (b"a" * 65_536 + b"\n" + b"b" * 65_535, b"a" * 65_536 + b"\n"),
    ],
    ids=["empty", "no line", "half a line", "a long half", "zeros", "one block", "at a block's edge"],
)
def test_incomplete_last_line_is_cut_off_on_opening(tmp_path: Path, left: bytes, kept: bytes) -> None:
    path(tmp_path, 3, open=True).write_bytes(left)
    writer = stream(tmp_path)
    assert (writer.number, writer.size) == (3, len(kept))
    writer.write(b"new\n")
    assert path(tmp_path, 3, open=True).read_bytes() == kept + b"new\n"


def test_cut_truncates_an_unfinished_write_before_the_next(tmp_path: Path) -> None:
    stream(tmp_path).write(b"one\ntwo\nthree\n")
    done: list[str] = []
    writer = SegmentWriter(tmp_path, PREDICTIONS, 100)
    writer.cut(1, 4, lambda: done.append("first"))
    writer.cut(9, 4, lambda: done.append("there is no such segment"))
    assert done == []
    writer.open()
    assert done == ["first", "there is no such segment"]
    writer.write(b"new\n")
    writer.open()
    assert path(tmp_path, 1, open=True).read_bytes() == b"one\nnew\n"


def test_cut_never_extends_a_segment(tmp_path: Path) -> None:
    stream(tmp_path).write(b"one\n")
    writer = SegmentWriter(tmp_path, PREDICTIONS, 100)
    writer.cut(1, 400, lambda: None)
    writer.open()
    assert writer.size == 4


def test_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = stream(tmp_path)
    writer.write(b"one\n")
    pwrite = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if offset > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(file, memoryview(data)[:3], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            writer.write(b"two\nthree\n")
    assert path(tmp_path, 1, open=True).read_bytes() == b"one\n"
    writer.write(b"two\n")
    assert path(tmp_path, 1, open=True).read_bytes() == b"one\ntwo\n"


def test_write_in_small_pieces_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = stream(tmp_path)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, memoryview(data)[:3], offset))
    writer.write(b"some longer line\n")
    writer.write(b"another\n")
    assert path(tmp_path, 1, open=True).read_bytes() == b"some longer line\nanother\n"


def test_deleted_segment_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    writer = stream(tmp_path / "records")
    writer.write(b"one\n")
    path(tmp_path / "records", 1, open=True).unlink()
    (tmp_path / "records").rmdir()
    writer.open()
    writer.write(b"two\n")
    assert path(tmp_path / "records", 1, open=True).read_bytes() == b"two\n"


def test_file_in_place_of_the_folder_is_an_error_until_removed(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.write_bytes(b"")
    writer = SegmentWriter(folder, PREDICTIONS, 100)
    with pytest.raises(OSError, match="File exists"):
        writer.open()
    folder.unlink()
    writer.open()
    writer.write(b"one\n")
    assert path(folder, 1, open=True).read_bytes() == b"one\n"


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("predictions-1.jsonl", "predictions-000000009.jsonl.bak", "notes.txt", "feedback-000000007.jsonl"):
        (tmp_path / name).write_bytes(b"half")
    writer = stream(tmp_path)
    assert writer.number == 1
    assert (tmp_path / "predictions-000000009.jsonl.bak").read_bytes() == b"half"


def test_segment_that_was_moved_away_is_not_written_to(tmp_path: Path) -> None:
    writer = stream(tmp_path / "records")
    writer.write(b"one\n")
    (tmp_path / "records").rename(tmp_path / "aside")
    writer.open()
    writer.write(b"two\n")
    assert path(tmp_path / "aside", 1, open=True).read_bytes() == b"one\n"
    assert path(tmp_path / "records", 1, open=True).read_bytes() == b"two\n"
