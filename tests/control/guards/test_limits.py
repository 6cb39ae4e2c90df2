"""Limits on metrics, and when the `while` conditions of a route open and close it."""

import random

import pytest

from gateway.control.guards.limits import RouteConditions, violates
from gateway.control.guards.window import MetricWindow, Sample
from gateway.settings.guards import ConditionSettings
from gateway.shm.tally import Tally

WINDOW_S = 10.0


@pytest.mark.parametrize(
    ("value", "above", "below", "expected"),
    [
        (0.06, 0.05, None, True),
        (0.05, 0.05, None, False),
        (39.9, None, 40, True),
        (40, None, 40, False),
        (1, None, None, False),
    ],
)
def test_value_equal_to_a_limit_is_not_beyond_it(
    value: float, above: float | None, below: float | None, expected: bool
) -> None:
    assert violates(value, above, below) is expected


class Gauge:
    """A route that is open while fewer than 10 requests are in flight, and their number."""

    def __init__(self) -> None:
        said = {"metric": "gateway.inflight", "below": 10, "window": "10s"}
        self.conditions = RouteConditions([ConditionSettings.model_validate(said)])
        self.window = MetricWindow((WINDOW_S,))
        self.now_s = 0.0

    def step(self, inflight: int | None) -> bool:
        self.now_s += 1
        if inflight is not None:
            self.window.sample(self.now_s, Sample(Tally().read(), None, inflight=inflight))
        return self.conditions.step(self.now_s, self.window)


def test_route_opens_after_a_whole_window_and_closes_at_once() -> None:
    gauge = Gauge()
    assert [gauge.step(1) for _ in range(12)] == [False] * 10 + [True] * 2
    assert gauge.step(500) is False


def test_unknown_metric_keeps_the_route_closed() -> None:
    gauge = Gauge()
    assert not any(gauge.step(None) for _ in range(30))


def test_route_without_conditions_is_open() -> None:
    assert RouteConditions([]).step(0.0, MetricWindow(()))


def test_route_opens_only_when_all_conditions_hold() -> None:
    said = [
        {"metric": "gateway.inflight", "below": 10, "window": "10s"},
        {"metric": "gateway.queue_depth", "below": 10, "window": "20s"},
    ]
    conditions = RouteConditions([ConditionSettings.model_validate(one) for one in said])
    window = MetricWindow((10.0, 20.0))
    found = []
    for second in range(25):
        window.sample(float(second), Sample(Tally().read(), None))
        found.append(conditions.step(float(second), window))
    assert found == [False] * 20 + [True] * 5


def test_route_stays_closed_for_a_whole_window() -> None:
    """Whatever the metric does, a window passes between closing and opening again."""
    generator = random.Random(0)
    gauge = Gauge()
    closed_at, flips = 0.0, 0
    was = False
    for _ in range(20_000):
        now = gauge.step(generator.choice((0, 0, 0, 0, 40)) if gauge.now_s % 300 < 150 else 0)
        if was and not now:
            closed_at = gauge.now_s
        if now and not was:
            flips += 1
            assert gauge.now_s - closed_at >= WINDOW_S
        was = now
    assert flips > 20
