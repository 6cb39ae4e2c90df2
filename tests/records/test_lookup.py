"""Finding the records of one prediction by the time of its id, with few segments read."""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from gateway.records.lookup import find, find_all, oldest_ns
from gateway.records.segments import MAX_DISORDER_NS, RecordSegment, segment_path, snapshot

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
T_NS = 1_795_003_200 * SECOND_NS


def line(prediction_id: str, time_ns: int, **more: object) -> bytes:
    record = {"kind": "prediction", "prediction_id": prediction_id, "time_ns": time_ns, "model": "digits", **more}
    return orjson.dumps(record) + b"\n"


def hourly(folder: Path, hours: int = 10) -> Sequence[RecordSegment]:
    """A segment an hour, with a record a minute, named by its minute; the last segment is open."""
    for hour in range(hours):
        path = segment_path(folder, "predictions", hour + 1, open=hour == hours - 1)
        minutes = range(hour * 60, hour * 60 + 60)
        path.write_bytes(b"".join(line(f"m{minute}", T_NS + minute * MINUTE_NS) for minute in minutes))
    return snapshot(folder, "predictions")


class Passed:
    """How many bytes were read."""

    size = 0

    def __call__(self, size: int) -> None:
        self.size += size


@pytest.mark.parametrize("minute", [0, 59, 60, 307, 599])
def test_only_the_segment_of_the_time_is_read(tmp_path: Path, minute: int) -> None:
    stream, passed = hourly(tmp_path), Passed()
    found = find(stream, f"m{minute}", T_NS + minute * MINUTE_NS, passed)
    assert found is not None and found["time_ns"] == T_NS + minute * MINUTE_NS
    near = {minute // 60, (minute + 5) // 60, (minute - 5) // 60}
    assert passed.size <= sum(stream[hour].size_bytes for hour in near if 0 <= hour < 10)
    assert passed.size == stream[minute // 60].size_bytes or minute % 60 in (0, 59)


def test_a_record_that_was_written_late_is_found_in_the_next_segment(tmp_path: Path) -> None:
    stream = hourly(tmp_path)
    late = T_NS + 119 * MINUTE_NS
    with stream[2].path.open("ab") as file:
        file.write(line("late", late))
    assert find(snapshot(tmp_path, "predictions"), "late", late) is not None


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    stream = hourly(tmp_path)
    assert find(stream, "m", T_NS) is None
    assert find(stream, "m100", T_NS) is None  # of another time: no segment of that is read
    assert find(stream, "m0", 0) is None
    assert find([], "m0", T_NS) is None


def test_an_id_in_a_request_or_half_a_line_is_no_record(tmp_path: Path) -> None:
    path = segment_path(tmp_path, "predictions", 1, open=True)
    quoting = line("other", T_NS, request={"text": '"mine"', "prediction_id": "mine"})
    path.write_bytes(quoting + b'not json "mine"\n' + line("mine", T_NS).removesuffix(b"\n"))
    stream = snapshot(tmp_path, "predictions")
    assert find(stream, "mine", T_NS) is None
    with path.open("ab") as file:
        file.write(b"\n" + line("mine", T_NS + 1))
    found = find(snapshot(tmp_path, "predictions"), "mine", T_NS)
    assert found is not None and found["time_ns"] == T_NS


def test_all_records_from_a_time_on_are_found_in_the_order_of_writing(tmp_path: Path) -> None:
    stream = hourly(tmp_path)
    for hour in (9, 3, 1):
        with stream[hour].path.open("ab") as file:
            file.write(line("many", T_NS + hour * 60 * MINUTE_NS, hour=hour))
    stream, passed = snapshot(tmp_path, "predictions"), Passed()
    found = find_all(stream, "many", T_NS + 3 * 60 * MINUTE_NS + MAX_DISORDER_NS, passed)
    assert [one["hour"] for one in found] == [3, 9]
    assert passed.size == sum(segment.size_bytes for segment in stream)


@pytest.mark.parametrize("following", [b"", b"no record\n", None])
def test_the_end_of_a_segment_is_found_whatever_follows_it(tmp_path: Path, following: bytes | None) -> None:
    (tmp_path / "a").mkdir()
    path = segment_path(tmp_path / "a", "predictions", 1, open=False)
    path.write_bytes(b"".join([*(line(f"m{n}", T_NS + n) for n in range(100)), line("end", T_NS + 60 * MINUTE_NS)]))
    (tmp_path / "b").mkdir()
    folder = tmp_path / ("b" if following is None else "a")
    segment_path(folder, "predictions", 2, open=True).write_bytes(line("b", T_NS) if following is None else following)
    stream = [*snapshot(tmp_path / "a", "predictions"), *snapshot(tmp_path / "b", "predictions")]
    assert find(stream, "end", T_NS + 60 * MINUTE_NS) is not None


def test_the_oldest_time_is_that_of_any_folder(tmp_path: Path) -> None:
    for name, time_ns in (("a", T_NS + 1), ("b", T_NS)):
        (tmp_path / name).mkdir()
        segment_path(tmp_path / name, "predictions", 1, open=True).write_bytes(line("x", time_ns))
    assert oldest_ns([*snapshot(tmp_path / "a", "predictions"), *snapshot(tmp_path / "b", "predictions")]) == T_NS


def test_a_segment_that_was_sealed_or_deleted_meanwhile_does_no_harm(tmp_path: Path) -> None:
    stream = hourly(tmp_path)
    stream[9].path.rename(stream[9].path.with_suffix(""))
    stream[5].path.unlink()
    assert find(stream, "m590", T_NS + 590 * MINUTE_NS) is not None
    assert find(stream, "m330", T_NS + 330 * MINUTE_NS) is None


def test_the_oldest_time_is_that_of_the_first_segment(tmp_path: Path) -> None:
    assert oldest_ns([]) is None
    assert oldest_ns(hourly(tmp_path)[3:]) == T_NS + 180 * MINUTE_NS
