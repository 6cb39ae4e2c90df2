"""The names of what guards and conditions measure: live metrics, and what comparisons compare."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

MIRROR_DISAGREEMENT: Final = "mirror_disagreement"
VERSION_METRICS: Final = (
    "error_rate",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "requests_per_s",
    "accuracy",
    "reward_mean",
    "rescue_rate",
    "complaint_rate",
)
VARIANTS: Final = ("stable", "candidate")
METRICS: Final = (
    *(f"{variant}.{metric}" for variant in VARIANTS for metric in VERSION_METRICS),
    f"candidate.{MIRROR_DISAGREEMENT}",
    "gateway.inflight",
    "gateway.queue_depth",
)
DRIFTS: Final = ("predicted_class", "predicted_value")  # which differ, without being better or worse
SLOW_REQUESTS: Final = "slow_requests"
COUNTED: Final = ("failures", SLOW_REQUESTS, "complaints", *DRIFTS, MIRROR_DISAGREEMENT)
WRONG_FEEDBACK: Final = "wrong_feedback"
COMPARED_AS: Final[Mapping[str, str]] = {  # live metrics of a version, which limits and conditions have
    "error_rate": "failures",
    "accuracy": WRONG_FEEDBACK,
    "wrong": WRONG_FEEDBACK,
    "reward_mean": "reward",
    "complaint_rate": "complaints",
    **{f"latency_p{percent}_ms": SLOW_REQUESTS for percent in (50, 95, 99)},
}
METRICS_PREFIX: Final = "metrics."  # of the outcomes that are business metrics
COMPLAINT: Final = "metrics.complaint"  # unless it is 0
COMPLAINTS: Final = "complaints"
SHARES: Final = ("wrong", "loss", "reciprocal_rank", "ndcg")  # outcomes from 0 to 1, the loss where it is not an error
WORSE_IF_HIGHER: Final = ("wrong", "loss", "squared_error")  # as are most: these beyond doubt
WORSE_IF_LOWER: Final = ("reward", "reciprocal_rank", "ndcg")
OUTCOMES: Final = ("loss", "squared_error", "reciprocal_rank", "ndcg")  # of any output, of which one may be named


def is_mean(name: str) -> bool:
    """Whether it is the mean of an outcome: the loss and others, of the main output or of one that is named, or a
    business metric.
    """
    output, _, last = name.rpartition(".")
    if name.startswith("."):
        return False
    return name.removeprefix(METRICS_PREFIX) not in (name, "") or last in OUTCOMES or (output != "" and last == "wrong")


def parse_metric(value: Any) -> str:
    """Return the name of a live metric if there is one of this name."""
    variant, _, name = value.partition(".") if isinstance(value, str) else ("", "", "")
    if value in METRICS or (variant in VARIANTS and is_mean(name)):
        return str(value)
    if variant in VARIANTS and name == "wrong":
        raise ValueError(f"'{value}' is not known; its opposite is: {variant}.accuracy")
    if isinstance(value, str) and (close := _close(value)):
        raise ValueError(f"{value!r:.60} is not known; did you mean {' or '.join(close)}?")
    raise ValueError(
        f"{value!r:.60} is not known; metrics are {', '.join(METRICS)}, and after stable. or candidate. the mean of"
        f" feedback: {', '.join(OUTCOMES)}, metrics.NAME"
    )


def _close(name: str) -> list[str]:
    """The live metrics that may be meant: of both versions if none is named, or of a similar name."""
    if name in (*VERSION_METRICS, *OUTCOMES) or name.startswith(METRICS_PREFIX):
        return [f"candidate.{name}", f"stable.{name}"]
    return difflib.get_close_matches(name, METRICS, n=1, cutoff=0.8)


def parse_comparison_metric(value: Any) -> str:
    """Return the metric of a comparison if there is one of this name."""
    named = (*COUNTED, WRONG_FEEDBACK, "reward")
    variant, _, name = value.partition(".") if isinstance(value, str) else ("", "", "")
    if variant in VARIANTS and is_mean(name):
        raise ValueError(f"'{value}' cannot be compared; both versions are: write {name}")
    if isinstance(value, str) and (value in named or is_mean(value)):
        return value
    live = name if variant in VARIANTS else value
    if isinstance(live, str) and live in COMPARED_AS:
        raise ValueError(f"'{value}' cannot be compared; write {COMPARED_AS[live]}, which compares both versions")
    raise ValueError(
        f"{value!r:.60} cannot be compared; what can are {', '.join((*named, *OUTCOMES))} and metrics.NAME"
    )


_MEANS: Final = rf"(metrics\..+|(.+\.)?({'|'.join(OUTCOMES)})|.+\.wrong)$"
_LIVE: Final[dict[str, Any]] = {
    "anyOf": [{"enum": list(METRICS)}, {"type": "string", "pattern": rf"^({'|'.join(VARIANTS)})\.{_MEANS}"}]
}
_COMPARED: Final[dict[str, Any]] = {
    "anyOf": [
        {"enum": [*COUNTED, WRONG_FEEDBACK, "reward", *OUTCOMES]},
        {"type": "string", "pattern": f"^{_MEANS}"},
    ]
}
MetricName = Annotated[str, BeforeValidator(parse_metric), WithJsonSchema(_LIVE)]
ComparisonMetric = Annotated[str, BeforeValidator(parse_comparison_metric), WithJsonSchema(_COMPARED)]
