"""Traffic over an hour, a day and the whole release: on a clock of the test's own, and across restarts."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway.control.guards.window import quantile_ms
from gateway.control.traffic.history import MODELS_PER_TICK, TrafficHistory, VersionTraffic
from gateway.control.traffic.series import BUCKET_S, DAY_S, HOUR_S
from gateway.errors import Outcome
from gateway.settings.routing import ReleaseSettings
from gateway.shm.scoreboard import Scoreboard
from gateway.shm.slots import VersionSlots

START_S = 1_790_000_100.0  # at a bucket's border, and not at an hour's
ALONE, PAIR = ReleaseSettings(stable=1), ReleaseSettings(stable=1, candidate=2)
MS = 1_000_000


class Gateway:
    """A scoreboard of one worker whose counters the test drives, and a history on its clock."""

    def __init__(self, folder: Path, settings: ReleaseSettings = PAIR, now_s: float = START_S) -> None:
        self.folder = folder
        self.served: Mapping[str, ReleaseSettings] = {"m": settings}
        self.now_s = now_s
        self.new: list[str] = []
        self.run = 0
        self.start()

    def start(self) -> None:
        """Start control: the counters begin at zero, and the history where the file left it."""
        self.run += 1
        self.board = Scoreboard.create(self.folder / f"board-{self.run}", 1)
        self.slots = VersionSlots(64, self.board)
        self.history = TrafficHistory(
            self.folder, self.board, self.slots, self._replace, self.new.append, lambda: self.now_s
        )
        self.tick()

    def serve(self, settings: ReleaseSettings) -> None:
        self.served = {**self.served, "m": settings}
        self.tick()

    def count(self, version: int, variant: str, ok: int, failed: int = 0, ms: int = 1) -> None:
        tally = self.board.tally(0, self.slots.of("m", version))
        for _ in range(ok):
            tally.success(variant, ms * MS, 1)
        for _ in range(failed):
            tally.failure(variant, Outcome.MODEL_ERROR, ms * MS)

    def pass_time(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + BUCKET_S)
            self.tick()

    def tick(self) -> None:
        list(self.history.steps(self.served))

    def read(self) -> dict[tuple[int, str], VersionTraffic]:
        traffic = self.history.traffic("m", self.served["m"])
        return {(one.version, one.variant): one for one in traffic.versions}

    def requests(self, version: int = 1, variant: str = "stable") -> tuple[int, int, int]:
        one = self.read()[version, variant]
        return one.hour.requests, one.day.requests, one.release.requests

    @staticmethod
    def _replace(path: Path, content: Callable[[], bytes]) -> None:
        path.write_bytes(content())


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def test_counts_since_the_last_bucket_are_included(gateway: Gateway) -> None:
    gateway.count(1, "stable", 8, 2, ms=10)
    gateway.count(2, "candidate", 3, ms=50)
    stable, candidate = gateway.read().values()
    assert (stable.hour.requests, stable.hour.answered, stable.hour.failed) == (10, 10, 2)
    assert stable.hour.requests == stable.day.requests == stable.release.requests
    assert candidate.release.requests == 3
    assert quantile_ms(candidate.hour.latency, 0.5) == pytest.approx(50, rel=0.05)


def test_hour_and_day_forget_and_the_release_does_not(gateway: Gateway) -> None:
    gateway.count(1, "stable", 100)
    gateway.pass_time(HOUR_S - BUCKET_S)
    gateway.count(1, "stable", 10)
    assert gateway.requests() == (110, 110, 110)
    gateway.pass_time(2 * BUCKET_S)
    assert gateway.requests() == (10, 110, 110)
    gateway.pass_time(HOUR_S)
    assert gateway.requests() == (0, 110, 110)
    gateway.pass_time(DAY_S)
    assert gateway.requests() == (0, 0, 110)


def test_no_request_is_lost_when_buckets_are_merged_into_hours(gateway: Gateway) -> None:
    for _ in range(2 * HOUR_S // BUCKET_S):
        gateway.count(1, "stable", 1)
        gateway.pass_time(BUCKET_S)
    gateway.pass_time(2 * HOUR_S)
    assert gateway.requests() == (0, 24, 24)


def test_memory_is_bounded_by_the_day(gateway: Gateway) -> None:
    for _ in range(40):
        gateway.count(1, "stable", 1)
        gateway.pass_time(HOUR_S)
    size = len((gateway.folder / "traffic.jsonl").read_bytes())
    for _ in range(40):
        gateway.count(1, "stable", 1)
        gateway.pass_time(HOUR_S)
    assert len((gateway.folder / "traffic.jsonl").read_bytes()) <= size + 20
    assert 24 <= gateway.requests()[1] <= 26


def test_restart_continues_where_the_last_run_was_saved(gateway: Gateway) -> None:
    gateway.count(1, "stable", 100, 5, ms=10)
    gateway.pass_time(2 * BUCKET_S)
    gateway.count(1, "stable", 20)
    gateway.history.save(gateway.served)
    gateway.start()
    assert gateway.requests() == (125, 125, 125)
    gateway.count(1, "stable", 1)
    assert gateway.requests() == (126, 126, 126)
    assert gateway.read()[1, "stable"].hour.failed == 5
    assert gateway.history.traffic("m", PAIR).since_s == START_S


def test_kill_loses_at_most_the_last_bucket(gateway: Gateway) -> None:
    gateway.count(1, "stable", 100)
    gateway.pass_time(BUCKET_S)
    gateway.count(1, "stable", 20)
    gateway.start()
    assert gateway.requests() == (100, 100, 100)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]\n", b'{"model":"m","versions":[1,2]}\n', b"\x00" * 50])
def test_damaged_file_costs_only_history(gateway: Gateway, damage: bytes) -> None:
    gateway.count(1, "stable", 100)
    gateway.pass_time(BUCKET_S)
    (gateway.folder / "traffic.jsonl").write_bytes(damage)
    gateway.start()
    gateway.count(1, "stable", 1)
    assert gateway.requests() == (1, 1, 1)


def test_torn_file_keeps_the_models_before_the_tear(gateway: Gateway) -> None:
    gateway.served = {**gateway.served, "n": ALONE}
    gateway.count(1, "stable", 100)
    gateway.pass_time(BUCKET_S)
    file = gateway.folder / "traffic.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    gateway.start()
    assert gateway.requests() == (100, 100, 100)


def test_new_release_begins_at_zero_and_each_version_keeps_its_hour(gateway: Gateway) -> None:
    gateway.count(1, "stable", 100)
    gateway.count(2, "candidate", 10)
    gateway.pass_time(60)
    gateway.serve(ReleaseSettings(stable=2))
    assert gateway.requests(2) == (0, 0, 0), "as stable it has not served yet"
    assert gateway.new == ["m"]
    gateway.serve(PAIR)
    assert gateway.requests() == (100, 100, 0)
    assert gateway.requests(2, "candidate") == (10, 10, 0)


def test_version_that_comes_back_is_not_counted_twice(gateway: Gateway) -> None:
    gateway.count(2, "candidate", 10)
    gateway.serve(ALONE)
    gateway.slots.sweep(lambda key: key[1] == 1)
    gateway.pass_time(BUCKET_S)
    gateway.slots.of("m", 2)
    gateway.serve(PAIR)
    assert gateway.requests(2, "candidate") == (10, 10, 0)


def test_clock_set_back_drops_what_lies_in_the_future(gateway: Gateway) -> None:
    gateway.count(1, "stable", 100)
    gateway.pass_time(3 * BUCKET_S)
    gateway.now_s -= 10 * BUCKET_S
    gateway.tick()
    gateway.count(1, "stable", 1)
    assert gateway.requests() == (1, 1, 101)


def test_many_models_are_taken_in_over_several_ticks(gateway: Gateway) -> None:
    gateway.served = {**gateway.served, **{f"m{number}": ALONE for number in range(3 * MODELS_PER_TICK)}}
    gateway.now_s += BUCKET_S
    file = gateway.folder / "traffic.jsonl"
    gateway.tick()
    assert not file.exists()
    for _ in range(3):
        gateway.tick()
    assert len(file.read_bytes().splitlines()) == 3 * MODELS_PER_TICK + 1
