"""Of a version whose sticky customers give feedback more often, fewer outcomes count, customer by customer; beside that
each customer's first outcome counts.
"""

import orjson
import pytest

from gateway.control.guards import outcomes as module
from gateway.control.guards.observation import FeedbackEvent
from gateway.control.guards.outcomes import NewUnits, Outcomes
from gateway.evidence.key_bounds import KeyBounds


def events(keys: range | list[None], *, candidate: bool, at_ns: int = 0) -> list[FeedbackEvent]:
    return [
        FeedbackEvent(0, at_ns + number, 500_000, candidate, key, {"wrong": 1.0}, route="all")
        for number, key in enumerate(keys)
    ]


def counting(new: NewUnits) -> tuple[int, int]:
    """How many count as a customer's first outcome, and as the first that thinning leaves."""
    return len(new.first_units), len(new.thinned_units)


def test_customer_whose_outcome_does_not_count_may_count_later_and_is_heard_of_once() -> None:
    outcomes = Outcomes(())
    first, left = counting(outcomes.ingest(events(range(100), candidate=True), 0)["wrong"])
    assert first == 100 and 0 < left < 80
    before = outcomes.to_json()[""]["counts"]
    again, more = counting(outcomes.ingest(events(range(100), candidate=True, at_ns=10**9), 0)["wrong"])
    assert again == 0 and 0 < more < 100 - left
    assert outcomes.to_json()[""]["counts"] == before == [(0.5, 100, 0)]


def test_each_has_the_chance_of_those_that_count_as_it_does() -> None:
    outcomes = Outcomes(())
    both = [one for key in range(300) for one in events(range(3 * key, 3 * key + 3), candidate=key % 3 > 0)]
    new = outcomes.ingest(both, 0)["wrong"]
    firsts, left = [one for one in new.chances if one], [one for one in new.thinned if one]
    assert len(firsts) == 900 and firsts[-1] == pytest.approx(2 / 3, abs=0.02)
    assert len(left) == pytest.approx(600, rel=0.1) and left[-1] == pytest.approx(0.5, abs=0.05)
    assert counting(new) == (900, len(left))


def test_rates_are_those_of_customers_who_have_not_counted_yet() -> None:
    """A few who send most do not decide: stable's one customer, who is known, changes nothing."""
    outcomes = Outcomes(())
    outcomes.ingest(events(range(60), candidate=True), 0)
    before = outcomes.to_json()[""]["thinning"]
    stable = events(range(900, 901), candidate=False)
    outcomes.ingest(stable, 0)
    ((route, *sums),) = outcomes.to_json()[""]["thinning"]
    assert (route, *sums) == ("all", before[0][1] + 0.5, before[0][2])
    outcomes.ingest(stable * 100, 0)
    assert outcomes.to_json()[""]["thinning"] == [["all", *sums]]


def test_a_step_keeps_who_is_known_and_the_rates_and_forgets_the_shares() -> None:
    outcomes = Outcomes(())
    outcomes.ingest([*events(range(90), candidate=True), *events(range(100, 130), candidate=False)], 0)
    rates = outcomes.to_json()[""]["thinning"]
    outcomes.restart()
    kept = outcomes.to_json()[""]
    assert kept["thinning"] == rates and kept["shares"] == kept["heard_shares"] == []
    assert not outcomes.ingest(events(range(100, 130), candidate=False), 0)
    new = outcomes.ingest(events(range(200, 201), candidate=False), 0)["wrong"]
    assert new.chances == new.thinned == [0.5]


def test_an_epoch_forgets_all() -> None:
    outcomes = Outcomes(())
    outcomes.ingest(events(range(90), candidate=True), 0)
    outcomes.reset()
    new = outcomes.ingest(events(range(3), candidate=True), 0)["wrong"]
    assert new.thinned[0] == new.chances[0] == 0.5 and counting(new) == (3, 3)


def test_as_many_customers_are_known_in_either_way_of_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the comparison of rates goes by as many; that later ones do not count is said."""
    monkeypatch.setattr(module, "MOST_KEYS", 40)
    outcomes = Outcomes(())
    outcomes.ingest(events(range(40), candidate=True), 0)
    assert outcomes.limits_reached("wrong") == "40 sticky keys are known, later ones do not count"
    for at_ns in range(40):
        outcomes.ingest(events(range(90), candidate=True, at_ns=at_ns * 10**9), 0)
    kept = outcomes.to_json()[""]
    assert kept["counts"] == [(0.5, 40, 0)]
    counted = KeyBounds()
    counted.restore(kept["known"])
    assert len(counted) == 40
    assert outcomes.limits_reached("wrong") == "40 sticky keys are known, later ones do not count"


def test_state_comes_back_in_both_ways_of_counting() -> None:
    first, second = Outcomes(()), Outcomes(())
    first.ingest([*events(range(90), candidate=True), *events(range(100, 130), candidate=False)], 0)
    second.restore(orjson.loads(orjson.dumps(first.to_json())))
    assert second.to_json().keys() == first.to_json().keys()
    more = [*events(range(200), candidate=True, at_ns=10**9), *events(range(300, 330), candidate=False)]
    new = first.ingest(more, 0)
    assert second.ingest(more, 0) == new
    assert counting(new["wrong"])[0] != counting(new["wrong"])[1]


@pytest.mark.parametrize("thins", [False, True])
def test_state_of_an_earlier_gateway_goes_on_where_no_key_is_sticky_however_often_feedback_comes(thins: bool) -> None:
    first, second = Outcomes(()), Outcomes(())
    first.ingest([*events([None] * 200, candidate=True), *events([None] * 20, candidate=False)], 0)
    kept = orjson.loads(orjson.dumps(first.to_json()))
    del kept[""]["heard_shares"], kept[""]["heard_apart"], kept[""]["heard_only"]
    if thins:
        kept[""]["heard"] = []
    else:
        del kept[""]["thinning"]
    assert second.restore(kept) == frozenset()
    assert second.feedback_ratio("wrong") == pytest.approx(10, rel=0.1)
    more = events([None], candidate=True)
    assert second.ingest(more, 0) == first.ingest(more, 0)


def test_requests_without_a_sticky_key_all_count() -> None:
    found = Outcomes(()).ingest(events([None] * 100, candidate=True), 0)
    assert counting(found["wrong"]) == (100, 100) and found["wrong"].chances == found["wrong"].thinned


def test_state_of_a_gateway_that_did_not_thin_is_read() -> None:
    earlier, now = Outcomes(()), Outcomes(())
    earlier.ingest(events(range(2), candidate=True), 0)
    kept = orjson.loads(orjson.dumps(earlier.to_json()))
    for part in kept.values():
        del part["heard_apart"], part["heard_only"], part["heard_shares"], part["thinning"]
    now.restore(kept)
    assert not now.ingest(events(range(2), candidate=True), 0)
    assert now.to_json()[""]["counts"] == [(0.5, 2, 0)]
