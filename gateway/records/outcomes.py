"""Checks the numbers in feedback: rewards and business metrics must be in a range, so that no value dominates a mean.

Without it, three rewards of 1.7e308 made a mean infinite for good, and one of 1e20 stopped a good candidate.
"""

from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.settings.model import MAX_OUTCOME, FeedbackSettings

ANY_METRIC: Final = (-1e9, 1e9)
DEFAULT_SETTINGS: Final = FeedbackSettings()  # for feedback on a model that is not served now


def reward(value: float, settings: FeedbackSettings) -> float:
    """Return `value` if it is in the model's range of rewards; raises InvalidRequest."""
    return _within(value, settings.reward, "reward", "feedback.reward")


def metric(name: str, value: float, settings: FeedbackSettings) -> float:
    """Return `value` if it is in the model's range of the business metric `name`; raises InvalidRequest."""
    return _within(value, settings.metrics.get(name, ANY_METRIC), f"metrics.{name:.60}", "feedback.metrics")


def is_countable(value: Any) -> bool:
    """Whether a recorded value can be summed: older gateways recorded any number."""
    return type(value) in (int, float) and -MAX_OUTCOME <= value <= MAX_OUTCOME  # NaN is not


def _within(value: float, bounds: tuple[float, float], name: str, key: str) -> float:
    lowest, highest = bounds
    if lowest <= value <= highest:
        return value
    raise InvalidRequest(
        f"{name} must be from {lowest:g} to {highest:g}, which {key} in model.yaml sets; got {value:g}"
    )
