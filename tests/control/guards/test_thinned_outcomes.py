"""Of a version whose sticky customers give feedback more often, fewer outcomes count, customer by customer."""

import orjson

from gateway.control.guards.observation import FeedbackEvent
from gateway.control.guards.outcomes import Outcomes


def events(keys: range | list[None], *, candidate: bool, at_ns: int = 0) -> list[FeedbackEvent]:
    return [
        FeedbackEvent(0, at_ns + number, 500_000, candidate, key, {"wrong": 1.0}, route="all")
        for number, key in enumerate(keys)
    ]


def test_customer_whose_outcome_does_not_count_may_count_later_and_is_heard_of_once() -> None:
    outcomes = Outcomes(())
    assert len(outcomes.ingest(events(range(100), candidate=True), 0)["wrong"].values) < 80
    before = outcomes.to_json()[""]["counts"]
    again = outcomes.ingest(events(range(100), candidate=True, at_ns=10**9), 0)
    assert 0 < len(again["wrong"].values) < 80
    assert outcomes.to_json()[""]["counts"] == before == [(0.5, 100, 0)]


def test_requests_without_a_sticky_key_all_count() -> None:
    found = Outcomes(()).ingest(events([None] * 100, candidate=True), 0)
    assert len(found["wrong"].values) == 100


def test_state_of_a_gateway_that_did_not_thin_is_read() -> None:
    earlier, now = Outcomes(()), Outcomes(())
    earlier.ingest(events(range(5), candidate=True), 0)
    kept = orjson.loads(orjson.dumps(earlier.to_json()))
    for part in kept.values():
        del part["heard"], part["thinning"]
    now.restore(kept)
    assert not now.ingest(events(range(5), candidate=True), 0)
    assert now.to_json()[""]["counts"] == [(0.5, 5, 0)]
