"""Checks the numbers in feedback: rewards and business metrics must be in a range, so that no value dominates a mean.

Without it, three rewards of 1.7e308 made a mean infinite for good, and one of 1e20 stopped a good candidate.
"""

import math
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.records.measures import METRICS
from gateway.settings.model import MAX_OUTCOME, FeedbackSettings

ANY_METRIC: Final = (-1e9, 1e9)
DEFAULT_SETTINGS: Final = FeedbackSettings()  # for feedback on a model that is not served now


def reward(value: float, settings: FeedbackSettings) -> float:
    """Return `value` if it is in the model's range of rewards; raises InvalidRequest."""
    return _within(value, settings.reward, "reward", "feedback.reward")


def metric(name: str, value: float, settings: FeedbackSettings) -> float:
    """Return `value` if it is in the model's range of the business metric `name`; raises InvalidRequest."""
    return _within(value, settings.metrics.get(name, ANY_METRIC), f"metrics.{name:.60}", "feedback.metrics")


def bounded(name: str, value: float) -> float:
    """Return what a measured outcome counts as: at most MAX_OUTCOME, a squared error the square of that."""
    most = MAX_OUTCOME**2 if name.rpartition(".")[2] == "squared_error" else MAX_OUTCOME
    return max(-most, min(most, value))


def countable(name: str, value: Any) -> float | None:
    """Return what a recorded outcome counts as; None if it cannot be summed: older gateways recorded any reward."""
    if type(value) not in (int, float) or not math.isfinite(value):
        return None
    within = bounded(name, float(value))
    return None if within != value and (name == "reward" or name.startswith(METRICS)) else within


def _within(value: float, bounds: tuple[float, float], name: str, key: str) -> float:
    lowest, highest = bounds
    if lowest <= value <= highest:
        return value
    raise InvalidRequest(
        f"{name} must be from {lowest:g} to {highest:g}, which {key} in model.yaml sets; got {value:g}"
    )
