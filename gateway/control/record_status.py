"""Statistics of the records (written, dropped, feedback, trace spans), collected for the metrics and the API."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from gateway.backends.repository import Repository
from gateway.control.control_plane import ControlPlane
from gateway.control.metrics.data_metrics import DataMetrics
from gateway.control.metrics.outcome_metrics import OutcomeLabels, OutcomeMetrics
from gateway.control.record_writer.outcome_sums import ClassTruths, ReceivedSum
from gateway.errors import GatewayError
from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS
from gateway.records.value_bins import bin_names
from gateway.settings.model import PredictionSettings
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
from gateway.version_key import VersionKey

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


class ClassLabels:
    """The class labels of each version, read from model.yaml once, since a version never changes."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: dict[VersionKey, Sequence[str]] = {}

    def of(self, name: str, version: int) -> Sequence[str]:
        """The labels in class order, or a regression's bins; empty if model.yaml has none or cannot be read now."""
        key = name, version
        if key not in self._known:
            try:
                prediction = self._repository.settings(name).main_prediction
            except (GatewayError, OSError):  # it is being edited: try again at the next call
                return ()
            self._known[key] = _names(prediction) if prediction else ()
        return self._known[key]


def _names(prediction: PredictionSettings) -> Sequence[str]:
    return bin_names(prediction.range) if prediction.range else prediction.labels


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
