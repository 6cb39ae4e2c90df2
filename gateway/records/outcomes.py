"""The numbers that feedback may give: rewards and business metrics lie in a range, so that none outweighs all others.

A mean moves with its largest number: three rewards of 1.7e308 made it infinite for good, one of 1e20 stopped a
candidate that did well.
"""

from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.settings.model import MAX_OUTCOME, FeedbackSettings

ANY_METRIC: Final = (-1e9, 1e9)
DEFAULT_SETTINGS: Final = FeedbackSettings()  # of a model that is not served now, and so says nothing of it


def reward(value: float, settings: FeedbackSettings) -> float:
    """`value`, where it is in the model's range; raises InvalidRequest."""
    return _within(value, settings.reward, "reward", "feedback.reward")


def metric(name: str, value: float, settings: FeedbackSettings) -> float:
    """The same for a business metric."""
    return _within(value, settings.metrics.get(name, ANY_METRIC), f"metrics.{name:.60}", "feedback.metrics")


def is_countable(value: Any) -> bool:
    """Whether it can be added up: what an older gateway has recorded may be any number."""
    return type(value) in (int, float) and -MAX_OUTCOME <= value <= MAX_OUTCOME  # NaN is not


def _within(value: float, bounds: tuple[float, float], name: str, key: str) -> float:
    lowest, highest = bounds
    if lowest <= value <= highest:
        return value
    raise InvalidRequest(
        f"{name} must be from {lowest:g} to {highest:g}, which {key} in model.yaml sets; got {value:g}"
    )
