"""Stops outlive the process, whichever of the two files they are kept in is lost, old or truncated."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.control.release import decisions, file_writer
from gateway.control.release.decisions import DecisionLog, read_stopped


@pytest.fixture
def open_stops(tmp_path: Path) -> Iterator[DecisionLog]:
    opened = DecisionLog(tmp_path)
    yield opened
    opened.close()


def reread(folder: Path) -> DecisionLog:
    """The decision log as the next process reads it."""
    again = DecisionLog(folder)
    again.close()
    return again


def stop(at: DecisionLog, model: str = "digits") -> None:
    at.stop(model, 2, "test", "why", {})


def test_stop_and_resume_are_on_disk_without_closing(open_stops: DecisionLog, tmp_path: Path) -> None:
    stop(open_stops)
    assert asyncio.run(open_stops.wait_durable())
    assert reread(tmp_path).stopped("digits", 2) == open_stops.stopped("digits", 2)
    open_stops.resume("digits", 2, "test", "why", {})
    assert asyncio.run(open_stops.wait_durable())
    assert reread(tmp_path).stopped("digits", 2) is None


@pytest.mark.parametrize("lost", ["stops.json", "decisions.jsonl"])
def test_either_file_alone_is_enough(tmp_path: Path, lost: str) -> None:
    first = DecisionLog(tmp_path)
    stop(first)
    stop(first, "tumor")
    first.resume("tumor", 2, "test", "why", {})
    first.close()
    (tmp_path / lost).unlink()
    again = reread(tmp_path)
    assert again.stopped("digits", 2) is not None
    assert again.stopped("tumor", 2) is None


def test_old_line_does_not_undo_a_newer_stop(tmp_path: Path) -> None:
    """The disk was full for the list of decisions, but not for the file of stops."""
    first = DecisionLog(tmp_path)
    stop(first)
    first.resume("digits", 2, "test", "why", {})
    asyncio.run(first.wait_durable())
    before = (tmp_path / "decisions.jsonl").read_bytes()
    stop(first)
    first.close()
    (tmp_path / "decisions.jsonl").write_bytes(before)
    assert reread(tmp_path).stopped("digits", 2) is not None


def test_torn_last_line_does_not_corrupt_the_next_decision(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(b'{"kind": "decision", "time_ns": 1')
    first = DecisionLog(tmp_path)
    stop(first)
    first.close()
    (tmp_path / "stops.json").unlink()
    assert reread(tmp_path).stopped("digits", 2) is not None


GOOD = {"time_ns": 1, "model": "m", "candidate": 2, "action": "stop", "by": "x", "reason": "", "evidence": {}}


@pytest.mark.parametrize(
    "content",
    [
        *(b"[{", b"", b"null", b"[null]", b"5", b'"stop"', b'["stop"]', b"[1, 2]", b"{}", b"true", b"[[]]", b"[{}]"),
        *(b"\xff\xfe", b"\x00" * 20, b"[" * 100_000, b"[1e999]"),
        *(orjson.dumps([GOOD | odd]) for odd in ({"candidate": "2"}, {"model": 5}, {"time_ns": None}, {"more": 1})),
        orjson.dumps({"stops": [GOOD]}),
        orjson.dumps([GOOD, {name: GOOD[name] for name in ("model", "candidate")}]),
    ],
)
def test_damaged_stops_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stops.json").write_bytes(content)
    for read in (DecisionLog, read_stopped):
        with pytest.raises(ValueError, match=r"stops.json is damaged .*, so it is not known which releases"):
            read(tmp_path)


def test_stop_does_not_wait_for_a_hanging_disk(
    open_stops: DecisionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(file_writer.Path, "open", lambda *_: goes_on.wait())
    monkeypatch.setattr(decisions, "DURABLE_TIMEOUT_S", 0.05)
    stop(open_stops)
    assert open_stops.stopped("digits", 2) is not None
    assert not asyncio.run(open_stops.wait_durable())
    monkeypatch.undo()
    goes_on.set()


def test_decisions_are_written_once_a_full_disk_has_room(open_stops: DecisionLog, tmp_path: Path) -> None:
    blocked = [tmp_path / "decisions.jsonl", tmp_path / "stops.json.new"]
    for path in blocked:  # a folder of that name: as root, permissions keep no one out
        path.mkdir()
    stop(open_stops)
    assert not asyncio.run(open_stops.wait_durable())
    for path in blocked:
        path.rmdir()
    open_stops._file_writer._sync_thread.shutdown()  # waits for the file
    assert reread(tmp_path).stopped("digits", 2) is not None


def test_line_torn_by_a_full_disk_does_not_corrupt_the_next(tmp_path: Path) -> None:
    """A torn line is what remains when the disk fills up in the middle of one."""
    journal = tmp_path / "decisions.jsonl"
    opened = DecisionLog(tmp_path)
    journal.symlink_to("/dev/full")
    opened.record("digits", 2, "edit", "test", "lost", {})
    assert not asyncio.run(opened.wait_durable())
    journal.unlink()
    journal.write_bytes(b'{"kind": "decis')
    opened.record("digits", 2, "edit", "test", "kept", {})
    assert asyncio.run(opened.wait_durable())
    opened.close()
    assert [decision.reason for decision in reread(tmp_path).decisions] == ["kept"]


def test_file_that_is_not_retried_does_not_delay_stops(
    open_stops: DecisionLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "feedback.json" / "in the way").mkdir(parents=True)
    open_stops.replace_file(tmp_path / "feedback.json", lambda: b"{}", retried=False)
    stop(open_stops)
    written = threading.Event()
    open_stops.run_after_sync(written.set)
    assert written.wait(20)
    assert "feedback.json cannot be written" in caplog.text
