"""How many times as often failures come on each route: at the route's own weights, kept in bounds, and no evidence."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.control.guards import epoch_counts
from gateway.control.guards.comparisons import Guards
from gateway.control.guards.failure_counts import FailureCounts, rows
from gateway.control.guards.failure_effects import failure_effects
from gateway.control.guards.observation import FeedbackEvent, MirrorPair, Observation
from gateway.control.guards.window import MetricWindow
from gateway.evidence.effect import Effect, EffectVerdict
from gateway.evidence.key_pairs import SEALED
from gateway.evidence.ratio import ratio_effect
from gateway.settings.guards import GuardsSettings
from gateway.shm.failure_events import NO_ROUTE, route_id

ROUTES = ("few", "many", "none")
NO_KEY = (None,)


def count(
    ledger: FailureCounts,
    route: str,
    weight_ppm: int,
    candidate: int,
    stable: int,
    keys: Sequence[int | None] = NO_KEY,
) -> None:
    """So many failures on a route of this weight, of each key."""
    for is_candidate, times in ((True, candidate), (False, stable)):
        for _ in range(times):
            for key in keys:
                ledger.add(weight_ppm, is_candidate, key, route=route_id(route) if route else NO_ROUTE)


def found(ledger: FailureCounts, metric: str = "failures") -> dict[str | None, Effect]:
    return {one.route: one for one in failure_effects(ledger, metric)}


def test_each_route_is_compared_at_its_own_weight() -> None:
    """The candidate fails as often as stable on both, though most of its failures are on the route of 50%."""
    ledger = FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 300, 2700)
    count(ledger, "many", 500_000, 500, 500)
    effects = found(ledger)
    assert list(effects) == [None, "few", "many"], "nothing of a route without failures"
    for effect in effects.values():
        assert (effect.effect, effect.verdict) == (pytest.approx(0.0, abs=1e-6), EffectVerdict.NO_WORSE)
    assert (effects["few"].candidate_units, effects["few"].stable_units) == (300, 2700)


def test_a_route_that_is_worse_shows_it_and_the_others_do_not() -> None:
    ledger = FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 20, 30)
    count(ledger, "many", 500_000, 60, 60)
    effects = found(ledger)
    assert effects["few"].verdict is EffectVerdict.WORSE
    assert effects["few"].effect == pytest.approx(5.0)
    assert effects["many"].verdict is EffectVerdict.UNKNOWN


def test_alpha_is_divided_by_all_routes() -> None:
    ledger = FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 20, 30)
    alone = ratio_effect(((0.1, 20, 30),), "failures", "failures", 0.5, alpha=0.05 / 3, route="few")
    assert found(ledger) == {None: ratio_effect(((0.1, 20, 30),), "failures", "failures", 0.5), "few": alone}


def test_weights_of_a_route_that_rises_count_each_by_itself() -> None:
    ledger = FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 20, 180)
    ledger.restart()
    count(ledger, "few", 500_000, 200, 200)
    assert found(ledger)["few"].effect == pytest.approx(0.0, abs=1e-6)
    assert found(ledger)["few"].candidate_units == 220


def test_a_sticky_key_counts_once_on_each_route() -> None:
    ledger = FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 0, 1, keys=range(200_000, 200_040))
    count(ledger, "many", 100_000, 0, 2, keys=range(200_000, 200_010))  # the same
    effects = found(ledger)
    assert (effects["few"].stable_units, effects["few"].not_counted) == (40, "")
    assert effects["many"].stable_units == 10 and effects["many"].not_counted.startswith("10 more of sticky keys")
    assert effects[None].stable_units == 40 and effects[None].not_counted.startswith("20 more of sticky keys")
    count(ledger, "many", 500_000, 1, 0, keys=[200_000])  # its bucket is beyond the first 100,000
    counts = dict(ledger.by_route.shown())["many"].counts
    assert rows(counts) == [(0.1, 0, 10), (pytest.approx(400_000 / 900_000), 1, 0)]


def test_candidate_that_fails_less_on_one_route_is_not_worse_on_another() -> None:
    """On the first only stable fails, so that all its keys have failed; on the second each key fails with both."""
    ledger, keys = FailureCounts(routes=ROUTES), range(0, 1_000_000, 2_000)
    for route, fails in (("many", [False]), ("few", [False, True])):
        for key in keys:
            if (candidate := key < 500_000) in fails:
                ledger.add(500_000, candidate, key, route=route_id(route))
    effects = found(ledger)
    assert effects["many"].verdict is EffectVerdict.BETTER
    assert (effects["few"].effect, effects["few"].verdict) == (pytest.approx(0.0, abs=1e-6), EffectVerdict.NO_WORSE)


def test_slow_requests_of_a_sticky_key_count_once_on_each_route() -> None:
    ledger = FailureCounts(once=True, routes=ROUTES)
    for weight_ppm in (100_000, 500_000):
        count(ledger, "few", weight_ppm, 0, 1, keys=[700_000])
    count(ledger, "many", 500_000, 0, 1, keys=[700_000])
    assert {route: one.stable_units for route, one in found(ledger).items()} == {None: 1, "few": 1, "many": 1}


def test_keys_by_route_are_bounded_and_further_ones_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_counts, "MOST_KEYS", 6)
    ledger = FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 0, 2, keys=[300_000, 400_000, 500_000, 600_000])
    assert (found(ledger)["few"].stable_units, dict(ledger.by_route.shown())["few"].repeated) == (2, [2, 0])
    count(ledger, "few", 100_000, 0, 1, keys=[None])
    count(ledger, "many", 100_000, 0, 1, keys=[300_000])
    units = {route: one.stable_units for route, one in found(ledger).items()}
    assert units == {None: 5, "few": 3, "many": 1}


def test_release_with_one_route_shows_the_whole_alone() -> None:
    ledger = FailureCounts(routes=["everyone"])
    count(ledger, "everyone", 100_000, 5, 5)
    assert list(found(ledger)) == [None] and ledger.to_json()["routes"] == {}


def test_failures_whose_route_is_not_known_count_for_the_release_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_counts, "MOST_COUNTED", 1)
    ledger = FailureCounts(routes=ROUTES)
    for route in ("", "gone"):
        count(ledger, route, 100_000, 5, 5)
    assert list(found(ledger)) == [None] and found(ledger)[None].candidate_units == 10
    assert ledger.to_json()["routes"] == {}, "nothing is kept"
    count(ledger, "few", 100_000, 5, 5)
    assert list(found(ledger)) == [None, "few"], "nor does it take the place of a route"


def test_names_that_cannot_be_told_apart_are_not_shown() -> None:
    names = ("plumless", "buckeroo", "other")
    assert route_id(names[0]) == route_id(names[1])
    ledger = FailureCounts(routes=names)
    for name in names:
        count(ledger, name, 100_000, 5, 5)
    assert list(found(ledger)) == [None, "other"]


def test_routes_with_most_failures_are_shown_and_others_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_counts, "MOST_COUNTED", 5)
    monkeypatch.setattr(epoch_counts, "MOST_SHOWN", 2)
    names = [f"route {number}" for number in range(8)]
    ledger = FailureCounts(routes=names)
    for number in (4, 7, 1, 2, 5, 6, 0, 3):
        count(ledger, names[number], 100_000, 1, number)
    assert list(found(ledger)) == [None, "route 5", "route 7"], "in the release's order"
    assert sorted(ledger.to_json()["routes"]) == [names[number] for number in (1, 2, 4, 5, 7)]


def test_counts_by_route_survive_a_restart_until_the_epoch_ends() -> None:
    ledger = FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 3, 9)
    count(ledger, "many", 100_000, 1, 1, keys=[5, 5, 999_999])
    edited, restored = FailureCounts(routes=("many", "new")), FailureCounts(routes=ROUTES)
    for one in (edited, restored):
        one.restore(ledger.to_json())
    assert found(restored) == found(ledger) and list(found(ledger)) == [None, "few", "many"]
    assert list(found(edited)) == [None, "many"] and list(edited.to_json()["routes"]) == ["many"]
    for one in (ledger, restored):
        count(one, "few", 100_000, 1, 0)
        count(one, "many", 100_000, 1, 0, keys=[5])
        assert (found(one)["few"].candidate_units, found(one)["many"].candidate_units) == (4, 2), "its key is known"
    restored.reset()
    assert found(restored) == {} and restored.to_json()["routes"] == {}


def test_state_of_an_earlier_gateway_has_no_counts_by_route() -> None:
    ledger, restored = FailureCounts(routes=ROUTES), FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 3, 9)
    kept = ledger.to_json()
    del kept["routes"]
    restored.restore(kept)
    assert list(found(restored)) == [None]
    count(restored, "few", 100_000, 2, 0)
    assert (found(restored)[None].candidate_units, found(restored)["few"].candidate_units) == (5, 2)


def test_counts_by_route_that_were_kept_without_keys_start_over() -> None:
    """They were of keys that were known for all routes together."""
    ledger, restored = FailureCounts(routes=ROUTES), FailureCounts(routes=ROUTES)
    count(ledger, "few", 100_000, 3, 9)
    kept = ledger.to_json()
    del kept["routes"]["few"]["number"]
    restored.restore(kept)
    assert list(found(restored)) == [None]


def test_keys_that_were_kept_by_route_go_on() -> None:
    ledger, restored = FailureCounts(routes=ROUTES), FailureCounts(routes=ROUTES)
    count(ledger, "many", 100_000, 0, 1, keys=[200_000, 300_000])
    count(ledger, "few", 100_000, 0, 1, keys=[200_000])
    kept = ledger.to_json()
    for name, keys in (("many", [200_000, 300_000]), ("few", [200_000])):
        del kept["routes"][name]["number"], kept["routes"][name]["keys"]
        kept["routes"][name]["known"] = [[100_000, 1_000_000, keys]]
    del kept["route_keys"]
    restored.restore(kept)
    assert found(restored) == found(ledger)
    for one in (ledger, restored):
        count(one, "few", 100_000, 0, 1, keys=[200_000, 300_000])
        count(one, "many", 100_000, 0, 1, keys=[200_000, 300_000])
        assert {route: effect.stable_units for route, effect in found(one).items()} == {None: 2, "few": 2, "many": 2}
    state, again = restored.to_json(), FailureCounts(routes=ROUTES)
    again.restore(state)
    assert again.to_json()["routes"] == state["routes"] and found(again) == found(ledger)
    assert {name: one["keys"] for name, one in state["routes"].items()} == {"few": 2, "many": 2}


def test_keys_of_a_route_that_is_gone_are_not_those_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_counts, "MOST_KEYS", 40)
    ledger, edited = FailureCounts(routes=ROUTES), FailureCounts(routes=("new", "many"))
    count(ledger, "few", 100_000, 0, 1, keys=range(200_000, 200_010))
    count(ledger, "many", 100_000, 0, 1, keys=range(200_000, 200_005))
    edited.restore(ledger.to_json())
    count(edited, "new", 100_000, 0, 1, keys=range(200_000, 200_010))
    count(edited, "many", 100_000, 0, 1, keys=range(200_000, 200_008))
    shown = {name: (one.counts.total(), one.repeated) for name, one in edited.by_route.shown()}
    assert shown == {"new": (10, [0, 0]), "many": (8, [5, 0])}
    count(edited, "many", 100_000, 0, 1, keys=range(300_000, 300_020))
    assert dict(edited.by_route.shown())["many"].counts.total() == 20, "as many keys as a route of two may have"


def test_state_of_many_routes_names_few_keys_one_by_one() -> None:
    """Else control would be held up each time that it is kept."""
    names = [f"route {number}" for number in range(100)]
    ledger = FailureCounts(routes=names)
    for number, name in enumerate(names):
        count(ledger, name, 100_000, 0, 1, keys=range(200_000 + number, 300_000, 1_000))
    state = ledger.to_json()
    assert len(state["routes"]) == 100 and sum(one["keys"] for one in state["routes"].values()) == 10_000
    named = [keys for *_, keys in state["route_keys"] if not isinstance(keys, str)]
    assert sum(map(len, named)) < SEALED


def test_evidence_is_the_same_with_and_without_routes() -> None:
    ledgers = [FailureCounts(routes=routes) for routes in ((), ("everyone",), ROUTES)]
    for one in ledgers:
        count(one, "few", 100_000, 5, 9, keys=[None, 5, 6, 7])
        count(one, "many", 500_000, 5, 2, keys=[None, 400_000, 7])
    assert len({(one.log_e, one.log_safe) for one in ledgers}) == 1 and ledgers[0].log_e != 0
    assert ledgers[0].counts == ledgers[1].counts == ledgers[2].counts


def guarded(**seen: Any) -> dict[tuple[str, str | None], Effect]:
    """What guards on complaints and disagreements find in these events, of a release with two routes."""
    named = [{"name": metric, "metric": metric} for metric in ("complaints", "mirror_disagreement")]
    guards = Guards(GuardsSettings.model_validate({"comparisons": named}), ("one", "two"))
    guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=MetricWindow(()), **seen), 0)
    return {(one.outcome, one.route): one for one in guards.effects() if one.is_ratio}


def test_complaints_are_of_the_route_of_their_prediction() -> None:
    told = [("one", True)] * 4 + [("one", False)] * 3 + [("two", False)] * 2 + [("", True)]
    effects = guarded(
        feedback=[
            FeedbackEvent(0, 0, 100_000, candidate, None, {"metrics.complaint": 1.0}, route=route)
            for route, candidate in told
        ]
    )
    units = {route: (one.candidate_units, one.stable_units) for (_, route), one in effects.items()}
    assert units == {None: (5, 5), "one": (4, 3), "two": (0, 2)}


def test_disagreements_are_of_any_route_and_of_the_traffic_that_no_route_takes() -> None:
    wrong = [("one", True)] * 4 + [("one", False)] * 3 + [("default", True)] * 2 + [("pinned", False)]
    effects = guarded(pairs=[MirrorPair(theirs, not theirs, route=route_id(route)) for route, theirs in wrong])
    units = {route: (one.candidate_units, one.stable_units) for (_, route), one in effects.items()}
    assert units == {None: (6, 4), "one": (4, 3), "default": (2, 0)}
    assert effects["mirror_disagreement", "one"].alpha == pytest.approx(0.05 / 3)
