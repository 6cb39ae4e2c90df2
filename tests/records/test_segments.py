"""Reading streams of records from their segments."""

from pathlib import Path

import orjson
import pytest

from gateway.errors import GatewayError
from gateway.records.segments import SegmentName, read, segment_name, segment_path, snapshot
from gateway.records.time_range import TimeRange, format_time, parse_time_ns

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS


def line(time_ns: int, model: str = "digits", **more: object) -> bytes:
    return orjson.dumps({"model": model, "time_ns": time_ns, **more}) + b"\n"


def write(folder: Path, number: int, *lines: bytes, open: bool = False) -> Path:
    path = segment_path(folder, "predictions", number, open=open)
    path.write_bytes(b"".join(lines))
    return path


def times(folder: Path, model: str = "digits", time_range: TimeRange | None = None) -> list[int]:
    records = read(snapshot(folder, "predictions"), model, time_range or TimeRange())
    return [record["time_ns"] for record in records]


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("predictions-000000001.jsonl", SegmentName("predictions", 1, False)),
        ("mirrors-000000042.jsonl.open", SegmentName("mirrors", 42, True)),
        ("feedback-1234567890.jsonl", SegmentName("feedback", 1_234_567_890, False)),
        ("predictions-1.jsonl", None),
        ("predictions-000000001.jsonl.gz", None),
        ("decisions.jsonl", None),
    ],
)
def test_segment_name_is_parsed_and_formatted(name: str, means: SegmentName | None, tmp_path: Path) -> None:
    assert segment_name(name) == means
    if means is not None:
        assert segment_path(tmp_path, means.stream, means.number, open=means.open) == tmp_path / name


def test_sealed_and_open_segments_are_read_in_order(tmp_path: Path) -> None:
    write(tmp_path, 10, line(5), open=True)
    write(tmp_path, 2, line(3), line(4))
    write(tmp_path, 1, line(1), line(2))
    (tmp_path / "feedback-000000001.jsonl").write_bytes(line(9))
    (tmp_path / "notes.txt").write_text("not a segment")
    assert times(tmp_path) == [1, 2, 3, 4, 5]


def test_incomplete_last_line_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, 1, line(1), line(2)[:-1], open=True)
    assert times(tmp_path) == [1]
    write(tmp_path, 1, line(1), line(2)[:-9], open=True)
    assert times(tmp_path) == [1]


def test_malformed_lines_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, 1, b'"digits"\n', b'["digits"]\n', b'{"model":"digits"}\n', b'{"digits\n', b"\n", line(7))
    assert times(tmp_path) == [7]


def test_only_records_of_the_model_are_read(tmp_path: Path) -> None:
    write(tmp_path, 1, line(1), line(2, "tumor"), line(3, "tumor", customer="digits"))
    assert times(tmp_path, "tumor") == [2, 3]
    assert times(tmp_path) == [1]


@pytest.mark.parametrize(
    ("time_range", "expected"),
    [
        (TimeRange(), [0, 1, 2, 3]),
        (TimeRange(since_ns=DAY_NS), [1, 2, 3]),
        (TimeRange(until_ns=2 * DAY_NS), [0, 1]),
        (TimeRange(DAY_NS, DAY_NS + 1), [1]),
        (TimeRange(4 * DAY_NS), []),
    ],
)
def test_time_range_selects_records_and_skips_segments(
    tmp_path: Path, time_range: TimeRange, expected: list[int]
) -> None:
    for day in range(4):
        write(tmp_path, day + 1, line(day * DAY_NS), open=day == 3)
    passed: list[int] = []
    records = list(read(snapshot(tmp_path, "predictions"), "digits", time_range, passed.append))
    assert [record["time_ns"] // DAY_NS for record in records] == expected
    assert sum(passed) == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_records_slightly_out_of_order_are_found(tmp_path: Path) -> None:
    write(tmp_path, 1, line(10 * SECOND_NS), line(30 * SECOND_NS))
    write(tmp_path, 2, line(20 * SECOND_NS))
    assert times(tmp_path, time_range=TimeRange(since_ns=25 * SECOND_NS)) == [30 * SECOND_NS]


def test_lines_appended_after_the_snapshot_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, 1, line(1), open=True)
    stream = snapshot(tmp_path, "predictions")
    with path.open("ab") as file:
        file.write(line(2))
    assert [record["time_ns"] for record in read(stream, "digits")] == [1]


def test_segment_sealed_or_deleted_after_the_snapshot_is_no_error(tmp_path: Path) -> None:
    first = write(tmp_path, 1, line(1))
    second = write(tmp_path, 2, line(2), open=True)
    stream = snapshot(tmp_path, "predictions")
    second.rename(second.with_suffix(""))
    first.unlink()
    assert [record["time_ns"] for record in read(stream, "digits")] == [2]


def test_snapshot_of_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert snapshot(tmp_path / "missing", "predictions") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", "2026-11-17T12:00:00.000000+00:00"),
        ("90s", "2026-11-18T11:58:30.000000+00:00"),
        ("2026-11-18", "2026-11-18T00:00:00.000000+00:00"),
        ("2026-11-18T09:30:00+01:00", "2026-11-18T08:30:00.000000+00:00"),
        ("2026-11-18T09:30:00.000001Z", "2026-11-18T09:30:00.000001+00:00"),
        ("1970-01-01", "1970-01-01T00:00:00.000000+00:00"),
        ("9999-12-31", "2262-04-11T23:47:16.854775+00:00"),
    ],
)
def test_parse_time_of_dates_and_durations(text: str, expected: str) -> None:
    now_ns = 1_795_003_200 * SECOND_NS
    assert format_time(parse_time_ns(text, now_ns)) == expected


@pytest.mark.parametrize(
    "text", ["yesterday", "24", "2026-13-01", "", "0001-01-01", "1969-12-31", "1000000d", "9" * 400 + "d"]
)
def test_parse_time_refuses_invalid_text(text: str) -> None:
    with pytest.raises(GatewayError, match="write for example 24h"):
        parse_time_ns(text, 1_795_003_200 * SECOND_NS)


def test_no_segments_hold_no_records_of_a_range(tmp_path: Path) -> None:
    assert times(tmp_path, time_range=TimeRange(since_ns=25 * SECOND_NS)) == []


def test_relative_time_is_the_time_that_is_written_of_it() -> None:
    time_ns = parse_time_ns("90s", 1_795_003_200_123_456_789)
    assert parse_time_ns(format_time(time_ns), 0) == time_ns


def test_malformed_lines_belong_to_the_time_of_their_neighbour(tmp_path: Path) -> None:
    cut = b'{"model":"digits", "cut\n'
    lines = [cut, line(SECOND_NS), cut, cut, line(40 * SECOND_NS), cut, line(2 * SECOND_NS), cut]
    (tmp_path / "predictions-000000001.jsonl").write_bytes(b"".join(lines))
    counted: list[None] = []
    for until, expected in ((30, 4), (1, 0), (100, 5)):
        counted.clear()
        stream = snapshot(tmp_path, "predictions")
        list(read(stream, "digits", TimeRange(0, until * SECOND_NS), on_malformed=lambda: counted.append(None)))
        assert len(counted) == expected
