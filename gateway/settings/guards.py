"""The settings of a release that depend on live metrics: conditions, guards, ramp, mirror and rescue."""

from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from gateway.settings.base import Settings
from gateway.settings.metric_names import (
    COUNTED,
    DRIFTS,
    METRICS_PREFIX,
    SHARES,
    WORSE_IF_HIGHER,
    WORSE_IF_LOWER,
    WRONG_FEEDBACK,
    ComparisonMetric,
    MetricName,
)
from gateway.settings.model import Range
from gateway.settings.scalars import shown
from gateway.settings.units import (
    Count,
    Name,
    Percent,
    Seconds,
    Share,
    parse_ppm,
    parse_share,
    unsupported_number_reason,
)

Direction = Literal["increase", "decrease"]
Action = Literal["stop", "pause"]


def parse_level(value: Any) -> float:
    """Parse the level that a metric is compared with: a number, or a percentage, which becomes a share from 0 to 1."""
    if isinstance(value, str) and value.endswith("%"):
        return parse_share(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is neither a number nor a percentage{unsupported_number_reason(value)}")
    return float(value)


Level = Annotated[float, BeforeValidator(parse_level), WithJsonSchema({"type": ["number", "string"]})]


def _check_one_side(below: float | None, above: float | None) -> None:
    if below is None and above is None:
        raise ValueError("needs either below or above")
    if below is not None and above is not None:
        raise ValueError("has both below and above; keep one of them")


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
        _check_one_side(self.below, self.above)
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
    """The guard acts only with this many requests in the window; for metrics of feedback: feedbacks."""
    action: Action = "stop"
    """Stop the candidate, or only pause its ramp."""

    @model_validator(mode="after")
    def _one_side(self) -> "LimitSettings":
        _check_one_side(self.below, self.above)
        return self


class ComparisonSettings(Settings):
    """A sequential test of the candidate against stable; it stays valid although it is evaluated continuously.

    The default action of predicted_class and predicted_value is pause: under sticky traffic the two versions have
    different customers, who may send different requests.
    """

    name: Name
    """Its name in decisions and metrics."""
    metric: ComparisonMetric
    """What is compared: how often there are such events, or means of feedback; business metrics as `metrics.NAME`."""
    threshold: Seconds | None = None
    """For `slow_requests` only: a request is slow if it takes longer. Stable then runs in threads too."""
    range: Range | None = None
    """The outcome's lowest and highest value, beyond which it is clipped; by default 0 to 1 for what is a share."""
    tolerance: Level | None = None
    """The difference of means up to which the candidate may be worse, in the outcome's unit; by default none."""
    direction: Direction | None = None
    """Which change is harm; needed for `metrics.NAME`. By default more loss, less reward."""
    feedback_delay: Seconds | None = None
    """An outcome counts once its prediction is so old, such as `1h`: for feedback that comes later for one version."""
    action: Action = "stop"
    """Stop the candidate, or only pause its ramp; the default of `predicted_class` and `predicted_value` is `pause`."""

    @property
    def outcome(self) -> str:
        """The name of the outcome whose means are compared; empty if the metric is none."""
        if self.metric in COUNTED:
            return ""
        return "wrong" if self.metric == WRONG_FEEDBACK else self.metric

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of the outcome."""
        return self.range or (0.0, 1.0)

    @property
    def harm(self) -> Direction:
        """Which change of the outcome is harm."""
        return self.direction or ("decrease" if self.outcome.rpartition(".")[2] in WORSE_IF_LOWER else "increase")

    @model_validator(mode="before")
    @classmethod
    def _drift_pauses(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("metric") in DRIFTS:
            return {"action": "pause", **value}
        return value

    @model_validator(mode="before")
    @classmethod
    def _percentage_is_of_shares(cls, value: Any) -> Any:
        tolerance, bounds = (value.get("tolerance"), value.get("range")) if isinstance(value, dict) else (None, None)
        if isinstance(tolerance, str) and tolerance.endswith("%") and bounds not in (None, [0, 1], (0, 1)):
            raise ValueError("tolerance is in the outcome's unit: a number; a percentage only if the range is [0, 1]")
        return value

    @model_validator(mode="after")
    def _threshold_where_slow(self) -> "ComparisonSettings":
        if (self.metric == "slow_requests") != (self.threshold is not None):
            raise ValueError("slow_requests needs a threshold, such as 50ms, and no other metric has one")
        return self

    @model_validator(mode="after")
    def _outcome_is_described(self) -> "ComparisonSettings":
        given = [key for key in ("range", "tolerance", "direction", "feedback_delay") if getattr(self, key) is not None]
        if not self.outcome and given:
            raise ValueError(f"{self.metric} has no {given[0]}: only outcomes have one, such as loss and reward")
        business = self.outcome.startswith(METRICS_PREFIX)
        last = "" if business else self.outcome.rpartition(".")[2]
        if last == "wrong" and "range" in given:
            raise ValueError(f"{self.metric} has no range: a prediction is right or wrong")
        if last in WORSE_IF_HIGHER and self.direction == "decrease":
            raise ValueError(f"{self.metric} cannot have the direction `decrease`: more of it is harm")
        unbounded = business or self.outcome.rpartition(".")[2] not in SHARES
        if self.outcome and unbounded and self.range is None:
            raise ValueError(f"{self.metric} needs a range, such as `range: [0, 500]`: its lowest and highest value")
        if business and self.direction is None:
            raise ValueError(f"{self.metric} needs a direction: which change is harm, `increase` or `decrease`")
        lowest, highest = self.bounds
        if not 0 <= (self.tolerance or 0) < highest - lowest:
            unset = "; without `range` it is [0, 1]: give it, such as `range: [0, 500]`" if self.range is None else ""
            width = f"the range's width, which is {highest - lowest:g}"
            raise ValueError(f"tolerance must be from 0 to less than {width}{unset}")
        return self

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What earlier gateways did not know is left out, so that their states and hosts agree with these settings."""
        later = ("range", "tolerance", "direction", "feedback_delay")
        return {key: value for key, value in dump(self).items() if key not in later or value is not None}


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

    weights: tuple[Percent, ...] = (0.1, 1, 5, 25, 50, 100)
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

    weight: Percent = Field(ge=0, le=100, json_schema_extra={"minimum": 0, "maximum": 100})
    """The percentage of stable's requests that are copied."""


class RescueSettings(Settings):
    """Rescue: stable answers if the candidate fails or takes too long."""

    timeout: Seconds = 0.5
    """How long the candidate may take before stable answers instead."""
