"""Fixed thresholds on live metrics: the guards' limits, and the `while` conditions of a route."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.control.guards.window import MetricWindow
from gateway.settings.guards import Action, ConditionSettings, LimitSettings


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated limit, its metric's value over its window, and the number of requests behind that value."""

    limit: LimitSettings
    value: float
    count: int

    def __str__(self) -> str:
        limit = self.limit
        return f"{limit.metric} is {self.value:.4g}, {_line(limit)}, over {limit.window:g} s ({self.count} requests)"


def violates(value: float, above: float | None, below: float | None) -> bool:
    """Whether the value is above `above` or below `below`. All comparisons of metrics with thresholds are made here."""
    return (above is not None and value > above) or (below is not None and value < below)


def violations(limits: Iterable[LimitSettings], window: MetricWindow, since_s: float) -> tuple[Violation, ...]:
    """Return the limits violated by what was counted since `since_s`; with too few requests none is violated."""
    found = []
    for limit in limits:
        reading = window.read(limit.metric, limit.window, since_s)
        enough = reading.count >= limit.min_requests or limit.metric.startswith("gateway.")
        if reading.value is not None and enough and violates(reading.value, limit.above, limit.below):
            found.append(Violation(limit, reading.value, reading.count))
    return tuple(found)


def first_violation(found: Iterable[Violation], action: Action) -> Violation | None:
    """Return the first violation with this action, or None."""
    return next((violation for violation in found if violation.limit.action == action), None)


class RouteConditions:
    """The `while` conditions of one route: it opens once every condition has held for its whole window, and closes as
    soon as one fails.

    A condition holds while its metric is known and on the right side of its threshold. A closed route stays closed for
    at least a window, so it cannot flap. An unknown metric closes the route: one with conditions on the candidate's
    metrics opens only if other traffic (another route, a pilot) measures the candidate.
    """

    def __init__(self, conditions: Sequence[ConditionSettings]) -> None:
        self._conditions = conditions
        self._held_since_s: list[float | None] = [None] * len(conditions)
        self._values: list[float | None] = [None] * len(conditions)

    def step(self, now_s: float, window: MetricWindow) -> bool:
        """Evaluate the conditions for this tick; return whether the route is open."""
        for i, condition in enumerate(self._conditions):
            value = window.read(condition.metric, condition.window).value
            holds = value is not None and violates(value, condition.above, condition.below)
            self._values[i] = value
            self._held_since_s[i] = (
                (now_s if self._held_since_s[i] is None else self._held_since_s[i]) if holds else None
            )
        return all(
            since_s is not None and now_s - since_s >= condition.window
            for since_s, condition in zip(self._held_since_s, self._conditions, strict=True)
        )

    def __str__(self) -> str:
        """The conditions in words, each with its present value."""
        return ", ".join(
            f"{condition.metric} is {'unknown' if value is None else format(value, '.4g')},"
            f" open when {_line(condition)} for {condition.window:g} s"
            for condition, value in zip(self._conditions, self._values, strict=True)
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the conditions with their present values, for a record."""
        return [
            {**condition.model_dump(), "value": value}
            for condition, value in zip(self._conditions, self._values, strict=True)
        ]


def _line(line: ConditionSettings | LimitSettings) -> str:
    return f"above {line.above:g}" if line.above is not None else f"below {line.below:g}"
