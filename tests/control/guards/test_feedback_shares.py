"""Shares of the randomised predictions for which feedback has come: restarts, gaps, several sources, delays."""

import random
from typing import Any

import orjson
import pytest

from gateway.control.guards import feedback_shares as module
from gateway.control.guards.comparisons import Guards
from gateway.control.guards.feedback_shares import FeedbackShares
from gateway.control.guards.observation import FeedbackEvent, Observation, Randomised
from gateway.control.guards.outcomes import Outcomes
from gateway.control.guards.window import MetricWindow
from gateway.evidence.effect import FeedbackShare
from gateway.settings.guards import ComparisonSettings, GuardsSettings

S = 10**9


def begun(delay_s: int = 0, **counts: tuple[int, int]) -> FeedbackShares:
    shares = FeedbackShares([delay_s * S])
    shares.observe(counts, S)
    return shares


def hear(shares: FeedbackShares, candidate: int = 0, stable: int = 0, at_s: float = 1.5) -> None:
    for number in range(candidate + stable):
        shares.hear("", int(at_s * S), number < candidate)


def packed(shares: FeedbackShares, delay_s: int = 0) -> FeedbackShares:
    again = FeedbackShares([delay_s * S])
    again.restore(orjson.loads(orjson.dumps(shares.to_json())))
    return again


def test_share_is_of_the_predictions_counted_since_the_first_reading() -> None:
    shares = begun(a=(500, 300))
    hear(shares, 7, 7, at_s=0.5)  # before it
    shares.observe({"a": (600, 350)}, 2 * S)
    hear(shares, 40, 40)
    assert shares.read("", 0) == FeedbackShare(0.8, 0.4)
    assert shares.read("reward", 0) == FeedbackShare(0.0, 0.0)


def test_counts_of_several_sources_add_up_in_any_order_and_when_told_again() -> None:
    told: list[Randomised] = [{"a": (10 * n, 5 * n), "b": (30 * n, 15 * n)} for n in range(1, 5)]
    generator = random.Random(3)
    for _ in range(20):
        shares = begun(a=(0, 0))
        for counts in (*told, told[-1]):
            shares.observe(dict(generator.sample([*counts.items()], 2)), 2 * S)
        hear(shares, 40, 40)
        assert shares.read("", 0) == FeedbackShare(0.5, 0.25)


def test_a_source_that_begins_anew_counts_from_0() -> None:
    shares = begun(a=(0, 0), b=(0, 0))
    shares.observe({"a": (50, 50), "b": (1, 1)}, 2 * S)
    shares.observe({"a": (49, 49), "b": (1, 1)}, 3 * S)
    hear(shares, 50, 25)
    assert shares.read("", 0) == FeedbackShare(0.5, 0.25)


def test_another_process_goes_on_without_the_predictions_between_the_two() -> None:
    before = begun(a=(0, 0))
    before.observe({"a": (50, 50)}, 2 * S)
    hear(before, 40, 20)
    after = packed(before)
    after.observe({"b": (7, 7)}, 9 * S)  # what it has counted before it was read is in the gap, too
    hear(after, 30, 30, at_s=5)
    assert after.read("", 0) == FeedbackShare(0.8, 0.4)
    after.observe({"b": (57, 57)}, 10 * S)
    hear(after, 40, 20, at_s=9.5)
    assert after.read("", 0) == FeedbackShare(0.8, 0.4)


def test_the_same_process_goes_on_without_a_gap_after_an_edit_and_in_a_fleet_so_does_another_leader() -> None:
    before = begun(a=(0, 0), b=(0, 0))
    after = packed(before)
    after.observe({"a": (25, 25), "c": (25, 25)}, 3 * S)
    hear(after, 40, 20, at_s=2)
    assert after.read("", 0) == FeedbackShare(0.8, 0.4)


def test_more_gaps_than_are_remembered_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GAPS", 1)
    shares = begun(a=(0, 0))
    for number, source in enumerate("abc"):
        shares.observe({source: (100, 100)}, (2 + number) * S)
        hear(shares, 90, 90, at_s=1.5 + number)
    shares.observe({"c": (200, 200)}, 6 * S)
    hear(shares, 80, 40, at_s=5)
    assert shares.read("", 0) == FeedbackShare(0.8, 0.4), "of those since the last process began"


def test_counts_that_a_host_does_not_tell_make_the_share_unknown_until_all_do() -> None:
    shares = begun(a=(0, 0))
    shares.observe({"a": (50, 50)}, 2 * S)
    hear(shares, 40, 20)
    shares.observe(None, 3 * S)
    assert shares.read("", 0) is None
    hear(shares, 40, 20, at_s=3.5)
    shares.observe({"a": (100, 100), "b": (100, 100)}, 4 * S)
    shares.observe({"a": (125, 125), "b": (125, 125)}, 5 * S)
    hear(shares, 40, 20, at_s=4.5)
    assert shares.read("", 0) == FeedbackShare(0.8, 0.4)


def test_a_clock_that_is_set_back_makes_the_share_unknown_until_it_is_where_it_was() -> None:
    shares = begun(a=(0, 0))
    shares.observe({"a": (50, 50)}, 100 * S)
    hear(shares, 40, 20)
    shares.observe({"a": (50, 50)}, 100 * S - S // 2)
    assert shares.read("", 0) == FeedbackShare(0.8, 0.4), "another host's clock"
    shares.observe({"a": (60, 60)}, 90 * S)
    shares.observe(None, 91 * S)
    for counts, at_s in ((70, 92), (80, 101)):
        shares = packed(shares)
        shares.observe({"a": (counts, counts)}, at_s * S)
        hear(shares, 1, 1, at_s=95)
        assert shares.read("", 0) is None
    shares.observe({"a": (130, 130)}, 110 * S)
    hear(shares, 40, 20, at_s=105)
    assert shares.read("", 0) == FeedbackShare(0.8, 0.4)


def test_state_of_an_earlier_gateway_begins_with_the_next_counts() -> None:
    shares = begun(a=(0, 0))
    hear(shares, 40, 40)
    shares.restore(None)
    shares.observe({"a": (500, 500)}, 3 * S)
    shares.observe({"a": (550, 550)}, 4 * S)
    hear(shares, 40, 20, at_s=3.5)
    hear(shares, 40, 20, at_s=2)
    assert shares.read("", 0) == FeedbackShare(0.8, 0.4)


@pytest.mark.parametrize(("heard", "share"), [(52, 1.0), (53, None)])
def test_slightly_more_feedback_than_predictions_is_all_and_much_more_is_unknown(
    heard: int, share: float | None
) -> None:
    shares = begun(a=(0, 0))
    assert shares.read("", 0) is None, "no predictions yet"
    shares.observe({"a": (50, 50)}, 2 * S)
    hear(shares, 10, heard)
    found = shares.read("", 0)
    assert (found and found.stable) == share


def test_share_is_of_the_predictions_that_are_as_old_as_feedback_is_waited_for() -> None:
    shares = begun(100, a=(0, 0))
    for second in range(2, 301):
        shares = packed(shares, 100) if second == 250 else shares
        if second == 90:
            assert shares.read("", 100 * S) is None, "none is so old"
        shares.observe({"a": (30 * second, 10 * second)}, second * S)
    hear(shares, 1600, 2400)
    found = shares.read("", 100 * S)
    assert found is not None and found.age_s == 100
    assert (found.candidate, found.stable) == (pytest.approx(0.8, abs=0.01), pytest.approx(0.4, abs=0.01))
    assert len(orjson.dumps(shares.to_json())) < 4000


def settings(**more: Any) -> ComparisonSettings:
    return ComparisonSettings.model_validate({"name": "c", "metric": "loss", **more})


def event(number: int, candidate: bool, key: int | None = None, **outcomes: float) -> FeedbackEvent:
    return FeedbackEvent(0, S + number + 1, 500_000, candidate, key, outcomes or {"loss": 1.0}, nonce=number)


def test_predictions_of_a_sticky_customer_are_told_apart_in_the_share() -> None:
    units = Outcomes(())
    units.ingest([], S, {"a": (0, 0)})
    events = [event(number, number < 40, key=1 if number < 40 else 600_000) for number in range(60)]
    assert len(units.ingest(events, 2 * S, {"a": (50, 50)})["loss"].values) == 2
    assert units.feedback_share("loss") == FeedbackShare(0.8, 0.4)
    assert units.feedback_share("reward") is None


def test_outcomes_without_room_to_wait_make_the_share_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.guards.waiting_outcomes.MOST_WAITING", 10)
    units = Outcomes([settings(feedback_delay="10s")])
    units.ingest([], S, {"a": (0, 0)})
    for second in range(2, 30):
        units.ingest([event(second, True)], second * S, {"a": (50, 50)})
    assert units.feedback_share("loss") is not None
    units.ingest([event(number, False)._replace(decided_ns=29 * S) for number in range(11)], 30 * S, {"a": (50, 50)})
    assert units.feedback_share("loss") is None


def observed(time_s: int, counts: Randomised | None, *events: FeedbackEvent, **more: Any) -> Observation:
    window = MetricWindow(())
    return Observation(
        time_ns=time_s * S, epoch=1, stopped=False, window=window, feedback=events, randomised=counts, **more
    )


def guards(**more: str) -> Guards:
    compared = {"name": "c", "metric": "loss", "range": [0, 1], **more}
    return Guards(GuardsSettings.model_validate({"comparisons": [compared]}))


@pytest.mark.parametrize("known", [True, False])
def test_effect_says_the_shares_or_the_ratio_where_they_are_unknown_also_after_a_restart(known: bool) -> None:
    before, after = guards(), guards()
    before.ingest(observed(1, {"a": (0, 0)} if known else None), 0)
    events = [event(number, number % 3 > 0) for number in range(600)]
    before.ingest(observed(2, {"a": (500, 500)} if known else None, *events), 0)
    after.restore(orjson.loads(orjson.dumps(before.to_json())))
    after.ingest(observed(9, {"b": (0, 0)} if known else None), 0)
    shares = "feedback has come for 80% of the candidate's and 40% of stable's predictions"
    for one in (before, after) if known else (before,):
        (effect,) = one.effects()[-1:]
        assert (shares in effect.words) == known == ("times as often" not in effect.words)


def test_feedback_that_an_earlier_process_has_not_counted_is_in_the_share_and_is_no_evidence() -> None:
    before, after = guards(), guards()
    before.ingest(observed(1, {"a": (0, 0)}), 0)
    before.ingest(observed(2, {"a": (500, 500)}, *[event(number, number % 3 > 0) for number in range(300)]), 0)
    assert (before.heard_until_ns, after.heard_until_ns) == (2 * S, 0)
    after.restore(before.to_json())
    late = [event(number, number % 3 > 0) for number in range(300, 600)]
    lost = [one._replace(decided_ns=5 * S) for one in late]
    after.ingest(observed(9, {"b": (0, 0)}, unheard=[*late, *lost]), 0)
    (effect,) = after.effects()[-1:]
    assert "80% of the candidate's and 40%" in effect.words
    assert effect.candidate_units + effect.stable_units == 300


def test_age_is_said_where_feedback_is_waited_for() -> None:
    one = guards(feedback_delay="10s")
    one.ingest(observed(1, {"a": (0, 0)}), 0)
    one.ingest(observed(2, {"a": (500, 500)}, *[event(number, number % 3 > 0) for number in range(600)]), 0)
    one.ingest(observed(20, {"a": (900, 900)}), 0)
    one.ingest(observed(21, {"a": (900, 900)}), 0)
    (effect,) = one.effects()[-1:]
    assert "of stable's predictions at least 10 s old" in effect.words


@pytest.mark.parametrize(
    ("share", "ratio", "tells"),
    [
        ((0.8, 0.4), 2.0, True),
        ((0.8, 0.4), 2.9, True),
        ((0.8, 0.4), 3.1, False),
        ((0.8, 0.4), 1.3, False),
        ((0.4, 0.8), 2.0, False),
        ((0.4, 0.44), 1.3, False),
        ((0.44, 0.4), 0.8, False),
        ((0.0, 0.0), 2.0, False),
        ((0.3, 0.0), 1000.0, True),
        ((0.3, 0.0), 2.0, False),
        ((0.0, 0.3), 0.001, True),
    ],
)
def test_shares_tell_a_ratio_that_is_about_theirs(share: tuple[float, float], ratio: float, tells: bool) -> None:
    assert FeedbackShare(*share).tells(ratio) is tells


def test_sources_that_still_count_are_not_forgotten_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SOURCES", 3)
    hosts = [f"h{number}" for number in range(10)]
    shares = begun(**dict.fromkeys(hosts, (0, 0)))
    for second in range(2, 20):
        shares.observe(dict.fromkeys([*hosts, f"gone{second}"], (5, 5)), second * S)
    shares.observe(dict.fromkeys(hosts, (10, 10)), 20 * S)
    hear(shares, 152, 76)
    assert shares.read("", 0) == FeedbackShare(0.8, 0.4), "of 100 of the hosts and 90 of those that are gone"
    assert len(shares.to_json()["seen"]) == 13


def test_shares_that_differ_the_other_way_over_all_weights_are_not_said() -> None:
    one, events = guards(), []
    one.ingest(observed(1, {"a": (0, 0)}), 0)
    for weight_ppm, stables, candidates in ((100_000, 4050, 900), (900_000, 100, 1800)):  # of 9000, 1000; 1000, 9000
        drawn = [True] * candidates + [False] * stables
        random.Random(weight_ppm).shuffle(drawn)
        events += [
            event(len(events) + number, candidate)._replace(weight_ppm=weight_ppm)
            for number, candidate in enumerate(drawn)
        ]
    one.ingest(observed(2, {"a": (10_000, 10_000)}, *events), 0)
    (effect,) = one.effects()[-1:]
    assert effect.feedback_share == FeedbackShare(0.27, 0.415)
    assert "feedback comes 2 times as often for the candidate as for stable" in effect.words


def test_after_an_upgrade_the_ratio_is_said_until_feedback_has_come_for_what_is_counted() -> None:
    before, after = guards(), guards()
    before.ingest(observed(1, None), 0)
    before.ingest(observed(2, None, *[event(number, number % 3 > 0) for number in range(600)]), 0)
    after.restore({name: state for name, state in before.to_json().items() if name != "feedback_shares"})
    after.ingest(observed(9, {"b": (0, 0)}), 0)
    after.ingest(observed(10, {"b": (100, 100)}), 0)
    (effect,) = after.effects()[-1:]
    assert effect.feedback_share == FeedbackShare(0.0, 0.0) and "times as often" in effect.words
    late = [event(number, number % 3 > 0)._replace(decided_ns=9 * S + 1) for number in range(600, 720)]
    after.ingest(observed(11, {"b": (100, 100)}, *late), 0)
    (effect,) = after.effects()[-1:]
    assert "80% of the candidate's and 40%" in effect.words
