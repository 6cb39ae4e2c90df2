"""Logs, digests and what is counted of them, as pure functions; damaged data; what a host keeps of its own log."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.control.fleet import entries as entries_module
from gateway.control.fleet import host_log
from gateway.control.fleet.counters import added, counts_of, sample_of
from gateway.control.fleet.entries import (
    KnownFeedback,
    batch,
    command_entry,
    failure_entry,
    feedback_entry,
    feedback_ids,
    is_ripe,
    pair_entry,
    recent,
)
from gateway.control.fleet.evidence import Digest, Log, Release, newest, news, retired, uncounted
from gateway.control.fleet.host import HostState, Observed
from gateway.control.fleet.host_log import HostLog
from gateway.control.fleet.leadership import Written, became, may_take_over
from gateway.control.fleet.release_codec import ReleaseReader, digest_of, encoded_digest, encoded_log
from gateway.control.fleet.store import Snapshot
from gateway.control.fleet.store_state import Member
from gateway.control.fleet.timing import Timing
from gateway.control.guards.observation import FeedbackEvent, MirrorPair
from gateway.control.guards.window import FeedbackCounts, Sample
from gateway.control.release.stages import Event
from gateway.shm.failure_events import NO_ROUTE, FailureEvent, FailureKind, route_id
from gateway.shm.tally import Tally

START = Digest(1, "a", state={})
NOW = 10**12
TIMING = Timing(10**9, 0)


def test_each_entry_is_counted_once_in_the_order_of_its_log_however_messages_come() -> None:
    draw = random.Random(1)
    for _ in range(200):
        sent = {name: [[name, number] for number in range(1, draw.randrange(2, 40))] for name in "abc"}
        counted: list[Any] = []
        digest, stored = START, dict.fromkeys("abc", Log(1))
        while any(digest.offsets.get(name, 0) < len(entries) for name, entries in sent.items()):
            name = draw.choice("abc")
            known = draw.choice((0, digest.offsets.get(name, 0)))  # a host may not have seen the last digest
            upto = draw.randrange(len(sent[name]) + 1)
            if draw.random() < 0.7:
                stored[name] = uncounted(Log(1, tuple(sent[name][:upto])), known)
            if draw.random() < 0.5:
                found = news(digest, stored, draw.randrange(1, 30))
                if draw.random() < 0.7:  # else the write fails, or its leader has gone
                    counted += found.entries
                    digest = digest._replace(version=digest.version + 1, offsets=found.offsets, lost=found.lost)
        assert digest.lost == 0
        for name, entries in sent.items():
            assert [entry for entry in counted if entry[0] == name] == entries


def test_entries_before_a_gap_are_counted_as_lost() -> None:
    found = news(START, {"a": Log(4, (1, 2))}, 10)
    assert found == ((1, 2), {"a": 5}, 3)
    assert news(START._replace(offsets=found.offsets, lost=3), {"a": Log(4, (1, 2))}, 10) == ((), {"a": 5}, 3)


def test_entries_of_a_host_with_other_settings_are_passed_over() -> None:
    logs = {"a": Log(1, (1, 2)), "b": Log(1, (3, 4), settings="other")}
    assert news(START, logs, 10) == ((1, 2), {"a": 2, "b": 2}, 0)


def test_a_log_waits_at_its_first_entry_that_is_not_ripe() -> None:
    found = news(START, {"a": Log(1, (1, 9, 2))}, 10, lambda entry: entry < 5)
    assert found == ((1,), {"a": 1}, 0)


def test_the_work_of_one_step_is_bounded_and_shared() -> None:
    logs = {name: Log(1, tuple(range(1000))) for name in "abcd"}
    found = news(START, logs, 100)
    assert found.offsets == dict.fromkeys("abcd", 25) and len(found.entries) == 100


def test_a_log_is_removed_only_once_it_is_counted_whole() -> None:
    logs = {"x-1": Log(3, (1, 2)), "y-1": Log(3, (1, 2)), "z-1": Log(1)}
    digest = START._replace(offsets={"x-1": 4, "y-1": 3, "z-1": 0})
    assert retired(digest, logs, lambda host: host in "xyz") == ("x-1", "z-1")
    assert retired(digest, logs, lambda host: host == "y") == ()


def test_the_newest_digest_is_gone_on_from() -> None:
    later = START._replace(version=5)
    assert newest(START, later) is later and newest(later, START) is later
    assert newest(None, START) is START and newest(None, None) is None and newest(START, None) is START


def test_what_became_of_a_write() -> None:
    assert became("new", "old", "new") is Written.STORED
    assert became("new", "old", "old") is Written.UNKNOWN
    assert became("new", "old", "third") is Written.LOST


def host(**more: Any) -> HostState:
    members = {name: Member(1, 1, False, f"host {name}") for name in "abc"}
    observed = {name: Observed(1, NOW) for name in "abc"}
    state = HostState("a", "host a", open=True, settled=True, contact_until_ns=NOW + 1, members=members)
    return state._replace(observed=observed)._replace(**more)


LED_BY_B = Release(Digest(3, "b", "s"), {"a-1": Log(1, settings="s"), "b-2": Log(1, settings="s")})
STILL = {"b": Observed(1, NOW - 2 * 10**9), "c": Observed(1, NOW)}


@pytest.mark.parametrize(
    ("state", "release", "settings", "expected"),
    [
        (host(), Release(), "s", True),
        (host(open=False), Release(), "s", False),
        (host(settled=False), Release(), "s", False),
        (host(contact_until_ns=NOW), Release(), "s", False),
        (host(), LED_BY_B, "s", False),
        (host(observed=STILL), LED_BY_B, "s", True),
        (host(members={"a": Member(1, 1, False, "host a")}), LED_BY_B, "s", True),
        (host(), LED_BY_B._replace(logs={"a-1": Log(1, settings="s")}), "s", True),  # it has no candidate any more
        (host(observed=STILL), LED_BY_B, "other", True),  # no one else is left
        (host(observed=STILL), LED_BY_B._replace(logs={**LED_BY_B.logs, "c-1": Log(1, settings="s")}), "other", False),
        (host(), Release(Digest(3, "a", "s"), {"a-1": Log(1)}), "s", False),  # it leads
    ],
)
def test_who_takes_over(state: HostState, release: Release, settings: str, expected: bool) -> None:
    assert may_take_over(state, release, settings, NOW, TIMING) is expected


def test_a_host_that_knows_a_later_digest_takes_over() -> None:
    for version, expected in ((2, False), (3, False), (4, True)):
        assert may_take_over(host(), LED_BY_B, "s", NOW, TIMING, kept=Digest(version, "c", "s")) is expected
    assert not may_take_over(host(open=False), LED_BY_B, "s", NOW, TIMING, kept=Digest(4, "c", "s"))


def test_a_leader_that_writes_nothing_is_replaced() -> None:
    assert may_take_over(host(), LED_BY_B, "s", NOW, TIMING, silent=True)


FAILED = FailureEvent(5, 0, 1, 10_000, True, FailureKind.SLOW, 77, route_id("everyone"))
JUDGED = FeedbackEvent(6, 5, 10_000, False, None, {"wrong": 1.0, "reward": 0.5}, 9, (1 << 64) - 1, "everyone")
PAIRED = MirrorPair(True, False, 9, 12, route_id("everyone"))


def test_entries_come_back_from_json_as_they_were() -> None:
    entries = [
        failure_entry(FAILED, 3), feedback_entry(JUDGED), pair_entry(PAIRED), command_entry(Event.HOLD, "ann", 3),
    ]  # fmt: skip
    found = batch(orjson.loads(orjson.dumps(entries)), KnownFeedback())
    assert found.failures == (FAILED._replace(epoch=3),)
    assert found.feedback == (JUDGED._replace(mark=0),)
    assert found.pairs == (PAIRED._replace(mark=0, nonce=0),)
    assert found.commands == ((Event.HOLD, "ann", 3),)


def test_gateways_of_the_release_before_read_every_entry_in_the_form_that_they_know() -> None:
    """They take what has another length for no entry."""
    entries = failure_entry(FAILED, 3), pair_entry(PAIRED), feedback_entry(JUDGED), command_entry(Event.HOLD, "ann", 3)
    written = orjson.loads(encoded_log(Log(4, entries, counts={})))
    assert written["entries"] == orjson.loads(orjson.dumps([
        ["failure", 3, 5, 10_000, True, True, 77], ["pair", 12, True, False], *entries[2:],
    ]))  # fmt: skip
    assert {name: written[name] for name in Log._fields if name != "entries"} == {
        "first": 4, "settings": "", "counts": {}, "lost": 0
    }  # fmt: skip
    assert written["routes"] == [FAILED.route, PAIRED.route, 0, 0]


def test_entries_of_gateways_of_the_release_before_count_without_a_route() -> None:
    earlier = {"first": 1, "settings": "s", "counts": {}, "lost": 0, "entries": [
        ["failure", 3, 5, 10_000, True, True, 77], ["pair", 12, True, False],
    ]}  # fmt: skip
    log = ReleaseReader().read(snapshot(b"", a=orjson.dumps(earlier))).logs["a"]
    counted = batch(log.entries, KnownFeedback())
    assert counted.failures == (FAILED._replace(epoch=3, route=NO_ROUTE),)
    assert [pair.route for pair in counted.pairs] == [NO_ROUTE] and counted.ids == ("12pair",)
    assert list(feedback_ids(log.entries)) == ["12pair"] == list(feedback_ids([pair_entry(PAIRED)]))


@pytest.mark.parametrize("routes", [[1], [1, "2"], [1, 2, 3], {"1": 2}, [1, True]])
def test_damaged_routes_are_refused(routes: Any) -> None:
    written = orjson.loads(encoded_log(Log(1, (failure_entry(FAILED, 3), pair_entry(PAIRED)), counts={})))
    record = orjson.dumps(written | {"routes": routes})
    with pytest.raises(ValueError, match="data in the fleet's store is damaged"):
        ReleaseReader().read(snapshot(b"", a=record))


def test_feedback_counts_once_for_each_part_of_a_prediction() -> None:
    known = KnownFeedback()
    truth, reward = JUDGED._replace(outcomes={"wrong": 1.0}), JUDGED._replace(outcomes={"reward": 0.5})
    first = batch([feedback_entry(truth), feedback_entry(truth), pair_entry(PAIRED), pair_entry(PAIRED)], known)
    assert len(first.feedback) == 1 and len(first.pairs) == 1
    known.add(first.ids)
    second = batch([feedback_entry(JUDGED), feedback_entry(reward), pair_entry(PAIRED)], known)
    assert [one.outcomes for one in second.feedback] == [{"reward": 0.5}] and not second.pairs


def test_outcomes_of_one_truth_are_one_item() -> None:
    several = JUDGED._replace(outcomes={"wrong": 1.0, "loss": 1.0, "reward": 0.5, "age.loss": 3.0, "metrics.a": 1.0})
    found = batch([feedback_entry(several)], KnownFeedback())
    nonce = JUDGED.nonce
    assert found.ids == (f"{nonce}t", f"{nonce}r", f"{nonce}.age", f"{nonce}.metrics.a")
    assert found.feedback[0].outcomes == several.outcomes


def test_an_output_of_any_name_has_items_of_its_own() -> None:
    named = {"wrong": 1.0, "reward": 1.0, "t.loss": 0.5, "r.loss": 0.2, "pair.loss": 0.1}
    found = batch(
        [pair_entry(PAIRED), feedback_entry(JUDGED._replace(outcomes=named, nonce=PAIRED.nonce))], KnownFeedback()
    )
    assert found.feedback[0].outcomes == named and len(found.pairs) == 1 and len(set(found.ids)) == 6


def test_many_metrics_of_a_prediction_do_not_make_an_earlier_one_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "MOST_KNOWN", 2)
    monkeypatch.setattr(entries_module, "MOST_RECENT", 2)
    known = KnownFeedback()
    ids = [f"1{part}" for part in ("t", "r")] + [f"2.metrics.{index}" for index in range(40)]
    known.add(ids)
    assert all(one in known for one in ids) and recent(ids) == tuple(ids)
    known.add(["3t"])
    assert "1t" not in known and "2.metrics.7" in known and "3t" in known and "3r" not in known
    assert recent([*ids, "3t"]) == (*ids[2:], "3t")
    monkeypatch.setattr(entries_module, "MOST_RECENT_ITEMS", 5)
    assert recent(ids) == tuple(ids[-5:])


@pytest.mark.parametrize("value", [1e300, 10**400, -(10**400)])
def test_outcomes_from_the_store_are_bounded(value: float) -> None:
    entry = feedback_entry(JUDGED._replace(outcomes={"reward": value}))
    assert abs(batch([entry], KnownFeedback()).feedback[0].outcomes["reward"]) == 1e12


def test_feedback_in_logs_of_earlier_gateways_is_read() -> None:
    """They wrote whether it was wrong, and the reward, instead of the outcomes and the route."""
    old = [["feedback", 7, 6, 5, 10_000, False, None, True, 0.5], ["feedback", 8, 6, 5, 10_000, True, 3, None, 2]]
    found = batch(orjson.loads(orjson.dumps(old)), KnownFeedback())
    assert [one.outcomes for one in found.feedback] == [{"wrong": 1.0, "reward": 0.5}, {"reward": 2.0}]
    assert found.ids == ("7t", "7r", "8r"), "as their digests name them"
    assert list(feedback_ids(old)) == list(found.ids)


@pytest.mark.parametrize(
    "entry",
    [[], [1], ["failure"], ["failure", 1, 2, 3, 4, 5, 6], ["failure", "1", 2, 3, True, False, None],
     ["failure", 1, 2, 3, True, False, None, "7"], ["failure", 1, 2, 3, True, False, None, 7, 8], ["feedback", 1],
     ["feedback", 1, 2, 3, 4, 5, 6, 7, 8], ["feedback", "1", 2, 3, 4, True, None, True, None],
     ["feedback", 1, 2, 3, 4, True, None, {"wrong": 1.0}, 0.5],
     ["feedback", 1, 2, 3, 4, True, None, {"wrong": "1"}, ""],
     ["pair", 1, 2, 3], ["pair", 1, True, False, None], ["pair", 1, True, False, 7, 8],
     ["command", "dance", "ann"], ["command", "hold", 7], ["what", 1]],
)  # fmt: skip
def test_what_is_no_entry_is_left_out(entry: list[Any]) -> None:
    assert is_ripe(entry, 1)
    found = batch([entry, failure_entry(FAILED, 1)], KnownFeedback())
    assert (len(found.failures), found.feedback, found.pairs, found.commands) == (1, (), (), ())


def sample(candidate: int, stable: int, waiting: int = 0) -> Sample:
    tallies = Tally(), Tally()
    for tally, count, variant in zip(tallies, (stable, candidate), ("stable", "candidate"), strict=True):
        for number in range(count):
            tally.success(variant, 1000 * number, 7)
        tally.classified(0, [3])
    tallies[1].rescue("timeout")
    feedback = FeedbackCounts(3, 2, 1, 0.25, {"loss": (2, 0.5)})
    return Sample(tallies[0].read(), tallies[1].read(), feedback, FeedbackCounts(), 4, waiting)


def test_counters_add_up_over_hosts_and_come_back_from_json() -> None:
    hosts = [sample(5, 9, 1), sample(2, 1, 2), sample(0, 0)]
    back = [sample_of(orjson.loads(orjson.dumps(counts_of(one, (1, 2)))), (1, 2)) for one in hosts]
    total = added(one for one in back if one is not None)
    assert total.candidate is not None
    assert np.array_equal(total.candidate.evidence, sum(one.candidate.evidence for one in hosts if one.candidate))
    assert np.array_equal(total.stable.evidence, sum(one.stable.evidence for one in hosts))
    assert (total.stable_feedback, total.inflight, total.queue_depth) == (
        FeedbackCounts(9, 6, 3, 0.75, {"loss": (6, 1.5)}),
        12,
        3,
    )
    rise = back[0].stable_feedback.since(FeedbackCounts(1, 1, 0, 0.0, {"loss": (1, 0.25)})) if back[0] else None
    assert rise == FeedbackCounts(2, 1, 1, 0.25, {"loss": (1, 0.25)})
    one = sample(1, 1)
    earlier = counts_of(one, (1, 2))
    earlier["feedback"] = [numbers[:4] for numbers in earlier["feedback"]]
    read = sample_of(earlier, (1, 2))
    assert read is not None and read.stable_feedback == replace(one.stable_feedback, outcomes={})
    assert sample_of(counts_of(hosts[0], (1, 2)), (1, 3)) is None, "those of another candidate"


COUNTS = counts_of(sample(2, 2), (1, 2))


@pytest.mark.parametrize(
    "change", [{"stable": [[1], [2, 3]]}, {"stable": [[-1], [2]]}, {"stable": [[10**6], [2]]}, {"candidate": None},
               {"gauges": [1]}, {"feedback": [[1, 2, 3], [1, 2, 3, 4]]}, {"feedback": [["1", 2, 3, 4], [1, 2, 3, 4]]}]
)  # fmt: skip
def test_damaged_counters_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"damaged|values to unpack"):
        sample_of(COUNTS | change, (1, 2))


def snapshot(core: bytes, **records: bytes) -> Snapshot:
    return Snapshot(True, "r", "t", core, records)


def test_a_release_comes_back_from_its_bytes() -> None:
    digest = Digest(4, "a", "s", 2, {"x": 1.5}, {"everyone": 10_000}, {"a-1": 3}, ("1t",), 5)
    log = Log(4, (["pair", 1, True, False],), "s", {"versions": [1, 2]}, 2)
    reader = ReleaseReader()
    release = reader.read(snapshot(encoded_digest(digest), a=encoded_log(log)))
    assert release == Release(digest, {"a": log})
    again = reader.read(snapshot(encoded_digest(digest), a=encoded_log(log)))
    assert again.digest is release.digest and again.logs["a"] is release.logs["a"]
    assert reader.read(snapshot(b"")) == Release()
    assert digest_of(orjson.loads(encoded_digest(digest))) == digest


@pytest.mark.parametrize("core", [b"{", b"[]", b"7", b"{}", b'{"version":"1"}'])
def test_a_damaged_digest_is_refused(core: bytes) -> None:
    with pytest.raises(ValueError, match=r"damaged.*choose another fleet.name, or delete the data"):
        ReleaseReader().read(snapshot(core))


@pytest.mark.parametrize("field", Digest._fields)
def test_a_digest_with_a_field_of_another_type_is_refused(field: str) -> None:
    document = orjson.loads(encoded_digest(START)) | {field: None}
    with pytest.raises(ValueError, match="damaged"):
        ReleaseReader().read(snapshot(orjson.dumps(document)))


def test_a_host_sends_a_part_and_keeps_what_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_log, "MOST_SENT", 3)
    monkeypatch.setattr(host_log, "MOST_KEPT", 5)
    log = HostLog("a")
    log.add([[number] for number in range(1, 8)])
    assert (log.waiting, log.lost) == (5, 2)
    record = log.record("s", (1, 2))
    assert (record.first, record.entries, record.lost) == (1, ([1], [2], [3]), 2)
    log.drop_counted(2)
    log.drop_counted(1)
    assert log.record("s", (1, 2)).entries == ([3], [4], [5])
    log.drop_all()
    assert (log.waiting, log.lost, log.record("s", (1, 2)).first) == (0, 5, 6)


def test_a_log_begun_anew_leaves_out_what_was_in_the_store() -> None:
    log = HostLog("a")
    log.add([[1], [2]])
    log.sent(log.record("s", (1, 2)))
    first = log.name
    log.add([[3]])
    log.begin_anew()
    record = log.record("s", (1, 2))
    assert log.name != first and log.name.startswith("a-")
    assert (record.first, record.entries) == (1, ([3],))
