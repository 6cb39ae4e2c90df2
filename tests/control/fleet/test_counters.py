"""Only what hosts' counters rise by while they are read is added up, never what a host has counted in all its life."""

from gateway.control.fleet.counters import FleetSums, counts_of
from gateway.control.fleet.evidence import Log
from gateway.control.fleet.host_log import HostLog
from gateway.control.guards.window import FeedbackCounts, Sample
from gateway.errors import Outcome
from gateway.shm.tally import BLOCK, Tally

VERSIONS = (1, 2)


def sample(candidate: int, stable: int = 0, rewarded: int = 0, waiting: int = 0) -> Sample:
    tallies = Tally(), Tally()
    for tally, count, variant in zip(tallies, (stable, candidate), ("stable", "candidate"), strict=True):
        for _ in range(count):
            tally.success(variant, 1000, 7)
            tally.classified(0, [3])
    tallies[1].waiting(waiting)
    feedback = FeedbackCounts(rewarded, 0, rewarded, 0.5 * rewarded)
    return Sample(tallies[0].read(), tallies[1].read(), FeedbackCounts(), feedback, 1, waiting)


def log(candidate: int, stable: int = 0, *, settings: str = "s", run: int = 1, rewarded: int = 0) -> Log:
    return Log(1, settings=settings, counts=counts_of(sample(candidate, stable, rewarded), VERSIONS, run))


class Reader:
    def __init__(self) -> None:
        self.sums = FleetSums()

    def read(self, settings: str = "s", **logs: Log) -> tuple[int, int]:
        """Requests to the candidate and to stable."""
        taken = self.sums.take(logs, settings, VERSIONS)
        assert taken.candidate is not None
        assert taken.candidate.classes[0, 3] == taken.candidate.outcomes("candidate")[Outcome.OK]
        return taken.candidate.outcomes("candidate")[Outcome.OK], taken.stable.outcomes("stable")[Outcome.OK]


def test_increases_of_all_logs_are_added_up_from_the_first_sight_on() -> None:
    reader = Reader()
    assert reader.read(a=log(100, 900), b=log(7)) == (0, 0)
    assert reader.read(a=log(103, 904), b=log(8)) == (4, 4)
    assert reader.read(a=log(103, 904), b=log(8)) == (4, 4)
    assert reader.read(a=log(104, 904), b=log(8), c=log(5000, 9000)) == (5, 4)
    assert reader.read(a=log(104, 904), b=log(8), c=log(5001, 9000)) == (6, 4)


def test_a_log_that_was_not_there_for_a_while_adds_nothing_when_it_is_back() -> None:
    reader = Reader()
    reader.read(a=log(1), b=log(1000))
    assert reader.read(a=log(2)) == (1, 0)
    assert reader.read(a=log(2), b=log(1500)) == (1, 0)
    assert reader.read(a=log(2), b=log(1501)) == (2, 0)


def test_logs_of_hosts_with_other_settings_add_nothing_neither_before_nor_at_their_change() -> None:
    reader = Reader()
    for count in (10, 20):
        assert reader.read(a=log(0), b=log(count, 1000, settings="t")) == (0, 0)
    assert reader.read(a=log(0), b=log(30, 1000)) == (0, 0)
    assert reader.read(a=log(0), b=log(31, 1000)) == (1, 0)
    assert reader.read("t", a=log(5, settings="t"), b=log(40, 2000, settings="t")) == (1, 0), "the reader's change"
    assert reader.read("t", a=log(6, settings="t"), b=log(41, 2000, settings="t")) == (3, 0)


def test_an_older_record_of_a_store_that_lost_data_counts_nothing_twice() -> None:
    reader = Reader()
    reader.read(a=log(0))
    assert reader.read(a=log(1000, rewarded=4)) == (1000, 0)
    assert reader.read(a=log(2)) == (1000, 0)
    assert reader.read(a=log(900)) == (1000, 0)
    assert reader.read(a=log(1001, rewarded=6)) == (1001, 0)
    taken = reader.sums.take({"a": log(1001, rewarded=6)}, "s", VERSIONS)
    assert taken.candidate_feedback == FeedbackCounts(6, 0, 6, 3.0)


def test_counters_of_a_gateway_that_counts_other_things_are_left_out() -> None:
    reader, other = Reader(), log(50)
    other.counts.update(versions=[BLOCK + 1, *VERSIONS], candidate=[[BLOCK], [1]])
    assert reader.read(a=log(0), b=other, c=Log(1, settings="s", counts={})) == (0, 0)
    assert reader.read(a=log(2), b=other) == (2, 0)


def test_gauges_are_those_of_now() -> None:
    sums = FleetSums()
    for waiting in (5, 2):
        logs = {name: Log(1, settings="s", counts=counts_of(sample(9, waiting=waiting), VERSIONS)) for name in "ab"}
        taken = sums.take(logs, "s", VERSIONS)
        assert (taken.inflight, taken.queue_depth) == (2, 2 * waiting)
    assert sums.take({}, "s", VERSIONS).queue_depth == 0


def test_a_hosts_counters_that_fall_begin_anew_and_its_gauges_may_fall() -> None:
    host, reader = HostLog("a"), Reader()
    steps = [(sample(90, waiting=9), 0), (sample(95, waiting=3), 5), (sample(0), 5), (sample(40), 45), (sample(41), 46)]
    for counters, expected in steps:
        host.count(counters)
        assert reader.read(a=host.record("s", VERSIONS)) == (expected, 0)


def test_what_a_host_counts_between_two_edits_that_no_one_saw_adds_nothing() -> None:
    host, reader = HostLog("a"), Reader()
    assert reader.read(a=host.record("s", VERSIONS)) == (0, 0), "before its first sample"
    for count in (100, 200):
        host.count(sample(count))
        assert reader.read(a=host.record("s", VERSIONS)) == (count - 100, 0)
    host.drop_all()
    host.count(sample(9000))
    assert reader.read(a=host.record("s", VERSIONS)) == (100, 0)
    host.count(sample(9001))
    assert reader.read(a=host.record("s", VERSIONS)) == (101, 0)
