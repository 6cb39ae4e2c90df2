"""Records whose times are out of order because the clock was set: deleted by number, found by time; keys likewise."""

import os
import time
from pathlib import Path

import orjson
import pytest

from gateway.control.record_writer.writer import RecordWriter
from gateway.offline.merged_feedback import merge_feedback
from gateway.records import token_keys as keys
from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS, read, segment_path, snapshot
from gateway.records.time_range import TimeRange
from gateway.records.token_keys import ROTATE_AFTER_S, token_keys
from gateway.settings.gateway import RecordsSettings
from tests.recording import NOON_NS

MINUTE_NS = 60 * 1_000_000_000
HOUR_NS = 60 * MINUTE_NS
YEARS_S = 10 * 366 * 86400.0


def write(folder: Path, number: int, times_ns: list[int], *, last: bool = False) -> None:
    lines = [orjson.dumps({"model": "m", "time_ns": time_ns}) + b"\n" for time_ns in times_ns]
    segment_path(folder, PREDICTIONS, number, open=last).write_bytes(b"".join(lines))


@pytest.mark.parametrize("step_ns", [-HOUR_NS, HOUR_NS, -NOON_NS + HOUR_NS, 50 * 366 * 24 * HOUR_NS])
@pytest.mark.parametrize("at", range(0, 400, 37))
def test_period_is_read_completely_where_the_clock_was_set(tmp_path: Path, step_ns: int, at: int) -> None:
    times_ns = [NOON_NS + index * MINUTE_NS + (step_ns if index >= at else 0) for index in range(400)]
    for number in range(4):
        write(tmp_path, number + 1, times_ns[number * 100 : number * 100 + 100], last=number == 3)
    stream = snapshot(tmp_path, PREDICTIONS)
    for begin_ns in (0, NOON_NS - HOUR_NS, NOON_NS + HOUR_NS, NOON_NS + 3 * HOUR_NS, NOON_NS + step_ns + 2 * HOUR_NS):
        for period in (TimeRange(begin_ns), TimeRange(None, begin_ns), TimeRange(begin_ns, begin_ns + HOUR_NS)):
            passed: list[int] = []
            found = [record["time_ns"] for record in read(stream, "m", period, passed.append)]
            assert found == [time_ns for time_ns in times_ns if period.covers(time_ns)]
            assert sum(passed) == sum(segment.size_bytes for segment in stream)


def sealed(folder: Path, stream: str, number: int, modified_s: float) -> Path:
    path = segment_path(folder, stream, number, open=False)
    path.write_bytes(bytes(1000))
    os.utime(path, (modified_s, modified_s))
    return path


@pytest.mark.parametrize("step_s", [-3600.0, -YEARS_S, YEARS_S])
def test_oldest_segments_are_deleted_first_whatever_their_times(tmp_path: Path, step_s: float) -> None:
    now_s = time.time()
    made = [sealed(tmp_path, PREDICTIONS, n, now_s + n + (step_s if 4 <= n <= 6 else 0)) for n in range(1, 11)]
    mirrors = [sealed(tmp_path, MIRRORS, n, now_s + n) for n in range(1, 3)]
    feedback = sealed(tmp_path, FEEDBACK, 1, now_s - YEARS_S)
    settings = RecordsSettings.model_validate({"retain": 4000, "segment": 1024})
    RecordWriter(tmp_path, settings)._make_room()
    left = [path for path in (*made, *mirrors) if path.exists()]
    assert len(left) == 3
    there = [path.exists() for path in made]
    assert there == sorted(there), "of a stream the newest stay"
    assert feedback.exists()


def test_last_feedback_holds_where_the_clock_was_set_back() -> None:
    def feedback_record(truth: int, time_ns: int) -> dict[str, object]:
        return {"truth": truth, "time_ns": time_ns}

    assert merge_feedback([feedback_record(1, NOON_NS), feedback_record(2, NOON_NS - HOUR_NS)]).truth == 2
    assert (
        merge_feedback([feedback_record(1, NOON_NS), feedback_record(2, 0), feedback_record(3, MINUTE_NS)]).truth == 3
    )
    assert merge_feedback([feedback_record(2, NOON_NS + MINUTE_NS), feedback_record(1, NOON_NS)]).truth == 2, (
        "two workers' rings"
    )


def test_last_key_signs_whatever_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.time()]
    monkeypatch.setattr(keys.time, "time", lambda: now[0])
    first = token_keys(tmp_path)
    now[0] += YEARS_S
    ahead = token_keys(tmp_path)
    assert ahead.current.number == first.current.number + 1
    now[0] -= YEARS_S
    assert token_keys(tmp_path).current.secret == ahead.current.secret
    now[0] += ROTATE_AFTER_S + 60
    later = token_keys(tmp_path)
    assert later.current.number == ahead.current.number + 1, "a key of a time to come is taken for one of now"
    now[0] = 0.0
    for _ in range(5):
        assert token_keys(tmp_path).current.secret == later.current.secret
