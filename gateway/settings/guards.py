"""The settings of a release that depend on live metrics: conditions, guards, ramp, mirror and rescue."""

from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.settings.base import Settings
from gateway.settings.units import (
    Count,
    Name,
    Number,
    Seconds,
    Share,
    parse_ppm,
    parse_share,
    unsupported_number_reason,
)

VERSION_METRICS: Final = (
    "error_rate",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "requests_per_s",
    "accuracy",
    "reward_mean",
    "rescue_rate",
)
METRICS: Final = (
    *(f"{variant}.{metric}" for variant in ("stable", "candidate") for metric in VERSION_METRICS),
    "gateway.inflight",
    "gateway.queue_depth",
)
Action = Literal["stop", "pause"]
MetricName = Literal[METRICS]  # type: ignore[valid-type]


def parse_level(value: Any) -> float:
    """Parse the level that a metric is compared with: a number, or a percentage, which becomes a share from 0 to 1."""
    if isinstance(value, str) and value.endswith("%"):
        return parse_share(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.60} is neither a number nor a percentage{unsupported_number_reason(value)}")
    return float(value)


Level = Annotated[float, BeforeValidator(parse_level), WithJsonSchema({"type": ["number", "string"]})]


class ConditionSettings(Settings):
    """A condition in a route's `while`: it holds if the metric over the window is below or above the level."""

    metric: MetricName
    """The metric that is compared."""
    below: Level | None = None
    """The condition holds if the metric is below this; give either this or `above`."""
    above: Level | None = None
    """The condition holds if the metric is above this; give either this or `below`."""
    window: Seconds = Field(default=30.0, gt=0)
    """The period over which the metric is computed; the route does not open before one whole window has passed."""

    @model_validator(mode="after")
    def _one_side(self) -> "ConditionSettings":
        if (self.below is None) == (self.above is None):
            raise ValueError("needs either below or above")
        return self


class BreakerSettings(Settings):
    """The circuit breaker: stops the candidate after consecutive failures in one worker."""

    consecutive_failures: Count = 5
    """Consecutive failures in one worker that stop the candidate."""
    crashes: Count = 3
    """Deaths of the candidate's own process within ten minutes that stop it."""


class LimitSettings(Settings):
    """A fixed threshold for one metric over a window."""

    name: Name
    """Its name in decisions and metrics."""
    metric: MetricName
    """The metric that is compared."""
    above: Level | None = None
    """The guard acts if the metric is above this; give either this or `below`."""
    below: Level | None = None
    """The guard acts if the metric is below this; give either this or `above`."""
    window: Seconds = Field(default=30.0, gt=0)
    """The period over which the metric is computed."""
    min_requests: Count = 100
    """The guard acts only with this many requests in the window; for `accuracy` and `reward_mean`: feedbacks."""
    action: Action = "stop"
    """Stop the candidate, or only pause its ramp."""

    @model_validator(mode="after")
    def _one_side(self) -> "LimitSettings":
        if (self.below is None) == (self.above is None):
            raise ValueError("needs either below or above")
        return self


class ComparisonSettings(Settings):
    """A sequential test of the candidate against stable; it stays valid although it is evaluated continuously.

    The default action of predicted_class is pause: under sticky traffic the two versions have different customers, who
    may send different requests.
    """

    name: Name
    """Its name in decisions and metrics."""
    metric: Literal["failures", "slow_requests", "wrong_feedback", "predicted_class", "mirror_disagreement"]
    """What is compared. The guard acts if the candidate has more than stable, or other classes (`predicted_class`)."""
    threshold: Seconds | None = None
    """For `slow_requests` only: a request is slow if it takes longer. Stable then runs in threads too."""
    action: Action = "stop"
    """Stop the candidate, or only pause its ramp; the default of `predicted_class` is `pause`."""

    @model_validator(mode="before")
    @classmethod
    def _drift_pauses(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("metric") == "predicted_class":
            return {"action": "pause", **value}
        return value

    @model_validator(mode="after")
    def _threshold_where_slow(self) -> "ComparisonSettings":
        if (self.metric == "slow_requests") != (self.threshold is not None):
            raise ValueError("slow_requests needs a threshold, such as 50ms, and no other metric has one")
        return self


class GuardsSettings(Settings):
    """The guards, which stop a candidate or pause its ramp automatically."""

    alpha: Share = 0.01
    """The probability that the comparisons, all together, ever act on a harmless candidate."""
    breaker: BreakerSettings = BreakerSettings()
    """The circuit breaker: stops the candidate after consecutive failures in one worker."""
    limits: tuple[LimitSettings, ...] = ()
    """Fixed thresholds for metrics over a window."""
    comparisons: tuple[ComparisonSettings, ...] = ()
    """Sequential tests of the candidate against stable, evaluated continuously; at most one for each metric."""

    @model_validator(mode="after")
    def _told_apart(self) -> "GuardsSettings":
        if not 0 < self.alpha < 1:
            raise ValueError("alpha must be above 0% and below 100%: at 0% no candidate is ever found harmful")
        names = [limit.name for limit in self.limits] + [guard.name for guard in self.comparisons]
        metrics: list[str] = [guard.metric for guard in self.comparisons]
        for what, words in (("are named", names), ("compare", metrics)):
            for word in words:
                if words.count(word) > 1:
                    raise ValueError(
                        f"two guards {what} '{word}'; names of guards and metrics of comparisons must be unique"
                    )
        return self


class RampSettings(Settings):
    """The steps of a route with `weight: ramp`."""

    weights: tuple[Number, ...] = (0.1, 1, 5, 25, 50, 100)
    """The steps in percent, each larger than the one before it."""
    interval: Seconds = 600.0
    """The minimum time at each step."""
    advance: Literal["safe", "no-violation"] = "safe"
    """`safe`: a step needs evidence that the candidate is harmless; `no-violation`: only traffic without violations."""

    @model_validator(mode="after")
    def _rises(self) -> "RampSettings":
        if not self.weights or any(b <= a for a, b in pairwise((0, *self.weights_ppm))):
            raise ValueError("weights must be percentages above 0, each larger than the one before it")
        return self

    @cached_property
    def weights_ppm(self) -> tuple[int, ...]:
        """The weights in parts per million."""
        return tuple(parse_ppm(weight) for weight in self.weights)


class MirrorSettings(Settings):
    """Copies requests to the candidate after stable has answered; the client never gets the candidate's answer."""

    weight: Number = Field(ge=0, le=100)
    """The percentage of stable's requests that are copied."""


class RescueSettings(Settings):
    """Rescue: stable answers if the candidate fails or takes too long."""

    timeout: Seconds = 0.5
    """How long the candidate may take before stable answers instead."""
