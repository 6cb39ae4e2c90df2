"""Counters: written by workers, added up by control."""

from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from gateway.errors import Outcome
from gateway.shm.latency import EXPORTED_NS, LATENCY_NS
from gateway.shm.scoreboard import INFLIGHT, Scoreboard
from gateway.shm.tally import LARGEST_BATCH, Tally


def test_counters_of_all_workers_are_added_up_by_version(tmp_path: Path) -> None:
    control = Scoreboard.create(tmp_path / "board", 2)
    for worker in (0, 1):
        board = Scoreboard.attach(tmp_path / "board", 2)
        board.tally(worker, 5).success("candidate", 250_000, 251_000)
        board.tally(worker, 5).failure("candidate", Outcome.TIMEOUT, 2_000_000)
        board.tally(worker, 6).success("stable", 90_000, 0)
        board.head(worker)[INFLIGHT] = 3
    totals = control.totals(5)
    assert {key: count for key, count in totals.outcomes("candidate").items() if count} == {"ok": 2, "timeout": 2}
    assert sum(totals.outcomes("stable").values()) == 0
    assert (totals.success, totals.fail) == ((2, 500_000), (2, 4_000_000))
    assert totals.latency("candidate").sum_ns == 4_500_000
    assert sum(totals.latency("candidate").counts) == 4
    assert control.totals(6).success == (2, 180_000)
    assert control.last_success_ns(5) == 251_000
    assert control.total(INFLIGHT) == 6


def test_replacement_worker_continues_the_counters_of_the_dead_one(tmp_path: Path) -> None:
    control = Scoreboard.create(tmp_path / "board", 1)
    for _ in range(3):
        Scoreboard.attach(tmp_path / "board", 1).tally(0, 0).success("stable", 1, 0)
    assert control.totals(0).success == (3, 3)


def test_randomised_predictions_are_added_up_over_workers_in_one_epoch(tmp_path: Path) -> None:
    control = Scoreboard.create(tmp_path / "board", 2)
    control.open(3)
    tallies = [Scoreboard.attach(tmp_path / "board", 2).tally(worker, 3) for worker in (0, 1)]
    for epoch, worker, candidate in [
        (1, 0, True),
        (1, 1, True),
        (1, 1, False),
        (2, 1, False),
        (1, 1, True),
        (2, 1, True),
    ]:
        tallies[worker].randomised(epoch, candidate)
    assert control.randomised(3, 1) == (0, 1), "the other worker has begun the next epoch"
    tallies[0].randomised(2, False)
    assert (control.randomised(3, 2), control.randomised(3, 1)) == ((2, 1), (0, 0))
    assert control.totals(3).success == (0, 0)
    control.open(3)
    assert control.randomised(3, 2) == (0, 0)


@pytest.mark.parametrize(("ns", "bucket"), [(0, 0), (100_000, 0), (100_001, 1), (10**10, 26), (10**10 + 1, 27)])
def test_duration_is_counted_in_the_first_bucket_it_does_not_exceed(ns: int, bucket: int) -> None:
    tally = Tally()
    tally.queued(ns)
    assert [index for index, count in enumerate(tally.read().queue.counts) if count] == [bucket]


def test_latency_buckets_are_fine_and_include_the_exported_edges() -> None:
    assert set(EXPORTED_NS) < set(LATENCY_NS)
    assert max(high / low for low, high in pairwise(LATENCY_NS)) <= 1.05**2
    assert (LATENCY_NS[0], LATENCY_NS[-1]) == (20_000, 60_000_000_000)
    tally = Tally()
    for ns in (19_000, 100_000, 100_001, 149_000, 150_001, 10**10, 10**11):
        tally.success("stable", ns, 0)
    histogram = tally.read().latency("stable")
    below = dict(zip(histogram.edges_ns, accumulate(histogram.counts), strict=False))
    assert [below[edge] for edge in (100_000, 150_000, 200_000, 10**10)] == [2, 4, 5, 6]


def test_batches_are_listed_by_size_and_rescues_by_reason() -> None:
    tally = Tally()
    tally.batch(4, 4, 100)
    tally.batch(4, 4, 50)
    tally.batch(1000, 1000, 7)
    tally.batch(0, 0, 1)
    tally.rescue("stopped")
    totals = tally.read()
    assert totals.batches == {1: (1, 1), 4: (2, 150), LARGEST_BATCH: (1, 7)}
    assert totals.rows == 1008
    assert {reason: count for reason, count in totals.rescues.items() if count} == {"stopped": 1}
