"""Fixed lines for live metrics: guards' limits, and the `while` of a route."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.control.guards.window import Window
from gateway.settings.guards import Action, ConditionSettings, LimitSettings


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that is not kept: its metric's value over its window, and the requests that the value rests on."""

    limit: LimitSettings
    value: float
    count: int

    def __str__(self) -> str:
        limit = self.limit
        return f"{limit.metric} is {self.value:.4g}, {_line(limit)}, over {limit.window:g} s ({self.count} requests)"


def beyond(value: float, above: float | None, below: float | None) -> bool:
    """Whether the value is on the named side of the line: the one place where a metric is compared."""
    return (above is not None and value > above) or (below is not None and value < below)


def violations(limits: Iterable[LimitSettings], window: Window, since_s: float) -> tuple[Violation, ...]:
    """The limits that are not kept by what was counted since `since_s`. Too few requests violate nothing."""
    found = []
    for limit in limits:
        reading = window.read(limit.metric, limit.window, since_s)
        enough = reading.count >= limit.min_requests or limit.metric.startswith("gateway.")
        if reading.value is not None and enough and beyond(reading.value, limit.above, limit.below):
            found.append(Violation(limit, reading.value, reading.count))
    return tuple(found)


def first(found: Iterable[Violation], action: Action) -> Violation | None:
    """The first violation that asks for `action`."""
    return next((violation for violation in found if violation.limit.action == action), None)


class Conditions:
    """The `while` of one route: open once every condition has held for the whole of its window; closed at once.

    A condition holds as long as its metric is known and on the right side. Whatever closes a route keeps it closed for
    a window at least, so it cannot flap. Unknown is closed: a route whose conditions ask for the candidate's metrics
    opens only where something else (another route, a pilot) shows how the candidate does.
    """

    def __init__(self, conditions: Sequence[ConditionSettings]) -> None:
        self._conditions = conditions
        self._held_since_s: list[float | None] = [None] * len(conditions)
        self._values: list[float | None] = [None] * len(conditions)

    def step(self, now_s: float, window: Window) -> bool:
        """Whether the route is open now."""
        for i, condition in enumerate(self._conditions):
            value = window.read(condition.metric, condition.window).value
            holds = value is not None and beyond(value, condition.above, condition.below)
            self._values[i] = value
            self._held_since_s[i] = (
                (now_s if self._held_since_s[i] is None else self._held_since_s[i]) if holds else None
            )
        return all(
            since_s is not None and now_s - since_s >= condition.window
            for since_s, condition in zip(self._held_since_s, self._conditions, strict=True)
        )

    def __str__(self) -> str:
        """The conditions, each with its value."""
        return ", ".join(
            f"{condition.metric} is {'unknown' if value is None else format(value, '.4g')},"
            f" open when {_line(condition)} for {condition.window:g} s"
            for condition, value in zip(self._conditions, self._values, strict=True)
        )

    def to_json(self) -> list[dict[str, Any]]:
        """The same for a record."""
        return [
            {**condition.model_dump(), "value": value}
            for condition, value in zip(self._conditions, self._values, strict=True)
        ]


def _line(line: ConditionSettings | LimitSettings) -> str:
    return f"above {line.above:g}" if line.above is not None else f"below {line.below:g}"
