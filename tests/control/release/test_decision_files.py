"""The decision log on disk: bounded reads at start, complete after a full disk, and stops outlive rotated files."""

import asyncio
import os
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.control.release import append as append_module
from gateway.control.release import decision_files, decisions
from gateway.control.release.append import append
from gateway.control.release.decisions import MAX_IN_MEMORY, DecisionLog, read_stopped
from tests.control.release.test_decisions import reread

SMALL = 4096
MANY = 1_000_000
START_WITHIN_BYTES = 64 * 1024**2


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decision_files, decisions):
        monkeypatch.setattr(module, "SEAL_BYTES", SMALL)


def line(number: int, action: str = "weight", **odd: Any) -> bytes:
    decision = {
        "time_ns": number,
        "model": "digits",
        "candidate": 2,
        "action": action,
        "by": "x",
        "reason": str(number),
    }
    return orjson.dumps({"kind": "decision", **decision, "evidence": {}, **odd}) + b"\n"


def sealed(folder: Path) -> list[Path]:
    return sorted(folder.glob("decisions-*.jsonl"))


def decide(folder: Path, count: int, retain: int = 1 << 30) -> list[str]:
    opened = DecisionLog(folder, retain)
    reasons = [f"{number}" for number in range(count)]
    for reason in reasons:
        opened.record("digits", 2, "weight", "test", reason, {})
    opened.close()
    return reasons


@pytest.mark.usefixtures("small")
def test_large_file_is_sealed_and_no_decision_is_lost(tmp_path: Path) -> None:
    reasons = decide(tmp_path, 200)
    files = [*sealed(tmp_path), tmp_path / "decisions.jsonl"]
    entries = [orjson.loads(each) for file in files for each in file.read_bytes().splitlines()]
    assert len(files) > 3
    assert all(file.stat().st_size < 2 * SMALL for file in files)
    assert [entry["reason"] for entry in entries if entry["kind"] == "decision"] == reasons


@pytest.mark.usefixtures("small")
def test_shown_decisions_include_those_of_sealed_files(tmp_path: Path) -> None:
    reasons = decide(tmp_path, 50)
    shown = [decision.reason for decision in reread(tmp_path).decisions]
    assert shown == reasons[-len(shown) :]
    assert len(shown) > SMALL // len(line(1)) // 2


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lost", ["stops.json", "decisions.jsonl", "none"])
def test_stop_outlives_the_deletion_of_its_file(tmp_path: Path, lost: str) -> None:
    opened = DecisionLog(tmp_path)
    for name in ("digits", "tumor"):
        opened.stop(name, 2, "test", "why", {})
    opened.resume("tumor", 2, "test", "why", {})
    opened.close()
    decide(tmp_path, 100, retain=0)
    assert not sealed(tmp_path)
    (tmp_path / lost).unlink(missing_ok=True)
    assert read_stopped(tmp_path) == {("digits", 2)}
    again = reread(tmp_path)
    assert again.stopped_keys() == {("digits", 2)}


@pytest.mark.usefixtures("small")
def test_decisions_at_the_edge_of_a_file_are_not_lost(tmp_path: Path) -> None:
    """Each of these is the first or the last in some file."""
    opened, stopped = DecisionLog(tmp_path), set()
    for number in range(1, 200):
        opened.stop("m", number, "test", "why", {})
        stopped.add(("m", number))
        if number % 3 == 0:
            opened.resume("m", number - 1, "test", "why", {})
            stopped.remove(("m", number - 1))
    opened.close()
    assert len(sealed(tmp_path)) > 3
    (tmp_path / "stops.json").unlink()
    assert read_stopped(tmp_path) == stopped


@pytest.mark.usefixtures("small")
def test_oldest_files_are_deleted_beyond_the_retained_size(tmp_path: Path) -> None:
    decide(tmp_path, 400, retain=2 * SMALL)
    assert 0 < sum(file.stat().st_size for file in sealed(tmp_path)) <= 2 * SMALL
    assert sealed(tmp_path)[0].name > "decisions-000000003.jsonl"
    before = sealed(tmp_path)
    decide(tmp_path, 400, retain=2 * SMALL)
    assert sealed(tmp_path)[0] > before[-1], "a number comes twice"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("links", [True, False])
def test_crash_while_sealing_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """With both the new and the old name present; and on a file system without hard links."""
    opened = DecisionLog(tmp_path)
    opened.stop("digits", 2, "test", "why", {})
    opened.close()
    if links:
        os.link(tmp_path / "decisions.jsonl", tmp_path / "decisions-000000001.jsonl")
    else:
        monkeypatch.setattr(os, "link", _no_links)
    reasons = decide(tmp_path, 200)
    (tmp_path / "stops.json").unlink()
    assert reread(tmp_path).stopped_keys() == {("digits", 2)}
    files = [*sealed(tmp_path), tmp_path / "decisions.jsonl"]
    entries = [orjson.loads(each) for file in files for each in file.read_bytes().splitlines()]
    assert [e["reason"] for e in entries if e["kind"] == "decision"] == ["why", *reasons]


def _no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.slow
def test_million_old_decisions_are_read_once_in_bounded_memory(tmp_path: Path) -> None:
    with (tmp_path / "decisions.jsonl").open("wb") as file:
        file.write(line(1, "stop"))
        file.writelines(line(number) for number in range(2, MANY))
    (tmp_path / "stops.json").write_bytes(orjson.dumps([_plain(1, "stop")]))
    tracemalloc.start()
    opened = DecisionLog(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    opened.close()
    assert opened.stopped_keys() == {("digits", 2)}
    assert [decision.time_ns for decision in opened.decisions] == [*range(MANY - MAX_IN_MEMORY, MANY)]
    assert peak < START_WITHIN_BYTES
    assert (tmp_path / "decisions.jsonl").stat().st_size < SMALL, "the next start would read all of it again"


def _plain(number: int, action: str) -> dict[str, Any]:
    entry: dict[str, Any] = orjson.loads(line(number, action))
    del entry["kind"]
    return entry


def test_large_list_is_read_whole_where_the_stops_file_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (decision_files, decisions):
        monkeypatch.setattr(module, "SEAL_BYTES", SMALL)
    (tmp_path / "decisions.jsonl").write_bytes(line(1, "stop") + b"".join(map(line, range(2, 1000))))
    assert reread(tmp_path).stopped_keys() == {("digits", 2)}


@pytest.mark.parametrize(
    "odd", [b"\xff\xfe", b"null", b"[]", b"{}", b'{"kind": "decision", "time', b'{"kind": "stopped"}']
)
def test_malformed_lines_are_skipped(tmp_path: Path, odd: bytes) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(line(1) + odd + b"\n" + line(2) + line(3, candidate="2") + line(4))
    assert [decision.time_ns for decision in reread(tmp_path).decisions] == [1, 2, 4]


def test_torn_lines_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(line(1) + line(2)[:20] + b"\n" + line(3)[:20])
    reread(tmp_path)
    assert "decisions.jsonl: 2 lines are torn or damaged, and passed over" in caplog.text


@pytest.mark.parametrize("taken", [0, 1, 50])
@pytest.mark.parametrize("cut", [True, False])
def test_disk_that_fills_within_a_line_loses_no_other_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int, cut: bool
) -> None:
    """Whether or not the partial line can be truncated; also after a restart while the disk is full."""
    opened = DecisionLog(tmp_path)
    opened.record("digits", 2, "weight", "test", "before", {})
    assert asyncio.run(opened.wait_durable())
    _fill(monkeypatch, taken, cut)
    opened.record("digits", 2, "weight", "test", "lost", {})
    assert not asyncio.run(opened.wait_durable())
    opened.close()
    opened = DecisionLog(tmp_path)
    monkeypatch.undo()
    opened.record("digits", 2, "weight", "test", "after", {})
    assert asyncio.run(opened.wait_durable())
    opened.close()
    assert [decision.reason for decision in reread(tmp_path).decisions] == ["before", "after"]


def _fill(monkeypatch: pytest.MonkeyPatch, taken: int, cut: bool) -> None:
    write, room = os.write, [taken]

    def written(file: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        size = write(file, data[: room[0]])
        room[0] -= size
        return size

    monkeypatch.setattr(append_module.os, "write", written)
    if not cut:
        monkeypatch.setattr(append_module.os, "ftruncate", _no_links)


def test_append_ends_a_torn_line_before_the_next(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"half")
    append(file, b"one\n")
    append(file, b"two\n")
    assert file.read_bytes() == b"half\none\ntwo\n"
