"""Statistics of the records (written, dropped, feedback, trace spans), collected for the metrics and the API."""

from collections import Counter
from typing import Final

from gateway.control.control_plane import ControlPlane
from gateway.control.metrics.data_metrics import DataMetrics
from gateway.control.metrics.outcome_metrics import OutcomeLabels, OutcomeMetrics
from gateway.control.record_writer.outcome_sums import ClassTruths, ReceivedSum
from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS
from gateway.shm.scoreboard import (
    DROPPED,
    EVENTS_DROPPED,
    FEEDBACK_DROPPED,
    MIRRORS_DROPPED,
    SPANS_DROPPED,
    SPANS_EXPORTED,
    SPANS_FAILED,
    THROTTLED,
    TOO_LARGE,
)

KINDS: Final = {PREDICTIONS: "prediction", FEEDBACK: "feedback", MIRRORS: "mirror"}
DROPS: Final = {
    ("prediction", "full"): DROPPED,
    ("prediction", "too_large"): TOO_LARGE,
    ("prediction", "throttled"): THROTTLED,
    ("feedback", "full"): FEEDBACK_DROPPED,
    ("mirror", "full"): MIRRORS_DROPPED,
    ("event", "full"): EVENTS_DROPPED,
}
SPANS: Final = {"exported": SPANS_EXPORTED, "failed": SPANS_FAILED, "dropped": SPANS_DROPPED}


def data_metrics(control: ControlPlane) -> DataMetrics:
    """Counts of records written and dropped, feedback received, and spans exported, with the record writer's error."""
    feedback: Counter[tuple[str, int, str]] = Counter()
    sums: dict[OutcomeLabels, ReceivedSum] = {}
    classes: dict[tuple[str, int, int], ClassTruths] = {}
    for (model, version, variant), credit in list(control.records.feedback.by_version.items()):
        for verdict, count in dict(credit.received).items():
            feedback[model, version, verdict] += count
        for (route, outcome), one in credit.received_sums().items():
            sums[OutcomeLabels(model, version, variant, route, outcome)] = one
        for index, truths in dict(credit.received_classes).items():
            key = model, version, index
            classes[key] = classes.get(key, ClassTruths()).plus(*truths)
    return DataMetrics(
        {KINDS[stream]: count for stream, count in control.records.writer.written.items()},
        dropped(control),
        feedback,
        control.records.writer.error,
        {result: control.scoreboard.total(word) for result, word in SPANS.items()},
        OutcomeMetrics(sums, classes),
    )


def dropped(control: ControlPlane) -> dict[tuple[str, str], int]:
    """The number of records that were dropped, by kind and reason."""
    return {reason: control.scoreboard.total(word) for reason, word in DROPS.items()}
