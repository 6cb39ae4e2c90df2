"""Decisions are ordered by their sequence number, whatever their times; older ones by their position in the list."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.release import decisions
from gateway.control.release.decisions import DecisionLog, read_stopped

KEY = "digits", 2
HOUR_NS = 3_600_000_000_000


@pytest.fixture(params=[-HOUR_NS, HOUR_NS, 0], ids=["each an hour earlier", "each an hour later", "all at once"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    times = (1_795_000_000_000_000_000 + step * request.param for step in itertools.count())
    monkeypatch.setattr(decisions.time, "time_ns", lambda: next(times))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


def decided(folder: Path, *actions: str) -> None:
    one = DecisionLog(folder)
    for action in actions:
        getattr(one, action)(*KEY, "test", action, {})
    asyncio.run(one.wait_durable())
    one.close()


def as_before(folder: Path) -> None:
    """Rewrite the files as the previous version wrote them."""
    lines = [json.loads(line) for line in (folder / "decisions.jsonl").read_bytes().splitlines()]
    (folder / "decisions.jsonl").write_text("".join(json.dumps(without(line)) + "\n" for line in lines))
    (folder / "stops.json").write_text(json.dumps([without(one) for one in stopped_in(folder)]))


def without(entry: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in entry.items() if name != "sequence"}


def stopped_in(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "stops.json").read_bytes())
    return found


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("before", [False, True], ids=["this version", "previous version"])
@pytest.mark.parametrize("lost", [None, "stops.json"])
def test_last_decision_holds_whatever_its_time(folder: Path, before: bool, lost: str | None) -> None:
    actions = ["stop", "resume", "stop", "resume", "resume", "stop"]
    for count in range(1, len(actions) + 1):
        decided(folder, actions[count - 1])
        if before:
            as_before(folder)
        if lost:
            (folder / lost).unlink()
        assert (KEY in read_stopped(folder)) == (actions[count - 1] == "stop")


@pytest.mark.usefixtures("clock")
def test_stops_file_behind_the_list_is_overruled(folder: Path) -> None:
    decided(folder, "stop")
    behind = (folder / "stops.json").read_bytes()
    decided(folder, "resume")
    (folder / "stops.json").write_bytes(behind)
    assert read_stopped(folder) == frozenset()
    as_before(folder)
    (folder / "stops.json").write_bytes(json.dumps([without(one) for one in json.loads(behind)]).encode())
    assert read_stopped(folder) == frozenset(), "by where it stands in the list"


@pytest.mark.usefixtures("clock")
def test_list_behind_the_stops_file_is_overruled(folder: Path) -> None:
    decided(folder, "stop", "resume")
    behind = (folder / "decisions.jsonl").read_bytes()
    decided(folder, "stop")
    (folder / "decisions.jsonl").write_bytes(behind)
    assert read_stopped(folder) == {KEY}


@pytest.mark.usefixtures("clock")
def test_sequence_numbers_continue_across_runs(folder: Path) -> None:
    for _ in range(3):
        decided(folder, "stop", "resume")
    one = DecisionLog(folder)
    one.close()
    assert [decision.sequence for decision in one.decisions] == [1, 2, 3, 4, 5, 6]
    as_before(folder)
    decided(folder, "stop")
    one = DecisionLog(folder)
    one.close()
    assert [decision.sequence for decision in one.decisions] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("sequence", [None, "7", -1, 0, 1.5, True, [], 2**63, 2**64])
def test_invalid_sequence_number_is_treated_as_missing(folder: Path, sequence: object) -> None:
    decided(folder, "stop")
    line = json.loads((folder / "decisions.jsonl").read_bytes()) | {"sequence": sequence}
    (folder / "decisions.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "stops.json").unlink()
    assert read_stopped(folder) == {KEY}
    decided(folder, "resume")
    assert read_stopped(folder) == frozenset()
