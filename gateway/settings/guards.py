"""What may be asked of live metrics: conditions, limits and comparisons, and what follows from them."""

from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.settings.base import Settings
from gateway.settings.units import Count, Name, Number, Seconds, Share, odd, parse_ppm, parse_share

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
    """What a metric is held against: a number, or a share out of a percentage."""
    if isinstance(value, str) and value.endswith("%"):
        return parse_share(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.60} is no number and no percentage{odd(value)}")
    return float(value)


Level = Annotated[float, BeforeValidator(parse_level), WithJsonSchema({"type": ["number", "string"]})]


class ConditionSettings(Settings):
    """A route's `while`: open as long as the metric over the window is below or above the level."""

    metric: MetricName
    """What is measured."""
    below: Level | None = None
    """Open while the metric is below this; either this or `above`."""
    above: Level | None = None
    """Open while the metric is above this."""
    window: Seconds = Field(default=30.0, gt=0)
    """The time that the metric is taken over, all of which must have passed before the route opens."""

    @model_validator(mode="after")
    def _one_side(self) -> "ConditionSettings":
        if (self.below is None) == (self.above is None):
            raise ValueError("needs either below or above")
        return self


class BreakerSettings(Settings):
    """Stops the candidate after so many failures in a row in one worker, or deaths of its process."""

    consecutive_failures: Count = 5
    """Failures in a row in one worker that stop the candidate."""
    crashes: Count = 3
    """Deaths of the candidate's own process within ten minutes that stop it."""


class LimitSettings(Settings):
    """A fixed line for one metric, from `min_requests` on that it rests on (of feedback metrics: feedbacks)."""

    name: Name
    """What decisions and metrics call it."""
    metric: MetricName
    """What is measured."""
    above: Level | None = None
    """Acts when the metric is above this; either this or `below`."""
    below: Level | None = None
    """Acts when the metric is below this."""
    window: Seconds = Field(default=30.0, gt=0)
    """The time that the metric is taken over."""
    min_requests: Count = 100
    """Requests in the window that it takes to act; of `accuracy` and `reward_mean`: feedbacks."""
    action: Action = "stop"
    """Stop the candidate, or only pause its ramp."""

    @model_validator(mode="after")
    def _one_side(self) -> "LimitSettings":
        if (self.below is None) == (self.above is None):
            raise ValueError("needs either below or above")
        return self


class ComparisonSettings(Settings):
    """A comparison with stable that stays valid however often one looks.

    `threshold`: beyond which a request of slow_requests is slow. Of predicted_class the action is pause unless the file
    says otherwise: under sticky traffic the two versions' customers differ in what they send.
    """

    name: Name
    """What decisions and metrics call it."""
    metric: Literal["failures", "slow_requests", "wrong_feedback", "predicted_class", "mirror_disagreement"]
    """What is compared: it acts when the candidate has more of it than stable."""
    threshold: Seconds | None = None
    """Beyond which a request is slow; for `slow_requests` only, for which stable runs in threads as well."""
    action: Action = "stop"
    """Stop the candidate, or only pause its ramp; of `predicted_class` it is pause unless said otherwise."""

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
    """What stops a candidate, or pauses its ramp, without anyone's help."""

    alpha: Share = 0.01
    """The chance of ever stopping a harmless candidate, all comparisons together."""
    breaker: BreakerSettings = BreakerSettings()
    """Stops at failures in a row."""
    limits: tuple[LimitSettings, ...] = ()
    """Fixed lines for metrics over a window."""
    comparisons: tuple[ComparisonSettings, ...] = ()
    """Comparisons with stable, valid however often one looks; of each metric at most one."""

    @model_validator(mode="after")
    def _told_apart(self) -> "GuardsSettings":
        if not 0 < self.alpha < 1:
            raise ValueError("alpha must be above 0% and below 100%: at 0% nothing is ever proved harmful")
        names = [limit.name for limit in self.limits] + [guard.name for guard in self.comparisons]
        metrics: list[str] = [guard.metric for guard in self.comparisons]
        for what, words in (("are named", names), ("compare", metrics)):
            for word in words:
                if words.count(word) > 1:
                    raise ValueError(f"two guards {what} '{word}'; decisions and metrics tell them apart by it")
        return self


class RampSettings(Settings):
    """The weights that `weight: ramp` goes through."""

    weights: tuple[Number, ...] = (0.1, 1, 5, 25, 50, 100)
    """Percentages, each larger than the one before it."""
    interval: Seconds = 600.0
    """How long each weight stands at least."""
    advance: Literal["safe", "no-violation"] = "safe"
    """What the next weight takes: evidence that the candidate does no harm, or requests and no violation."""

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
    """The percentage of requests that are copied to the candidate after stable has answered."""

    weight: Number = Field(ge=0, le=100)
    """The percentage of stable's requests that are copied; the copy's answer is compared and never sent."""


class RescueSettings(Settings):
    """When stable answers in the candidate's place."""

    timeout: Seconds = 0.5
    """How long a candidate may take before stable answers in its place."""
