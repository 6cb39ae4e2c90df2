"""Counts of right and wrong rows: by class and version, by confidence, by the hour. Exact, over all rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.offline.examples import Example
from gateway.offline.row_outcomes import label_set
from gateway.offline.statistics import Rate
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind

HOUR_NS: Final = 3_600 * 1_000_000_000
CONFIDENCE_BINS: Final = 10


@dataclass(slots=True)
class Tallies:
    """`confusions` counts by version and (truth, predicted), `confidence` by (tenth of the score, correct).

    `hourly`: right and judged rows by (hour since 1970, version); of labels: rows by (version, label).
    """

    confusions: dict[int, Counter[tuple[int, int]]] = field(default_factory=dict)
    confidence: Counter[tuple[int, bool]] = field(default_factory=Counter)
    hits: Counter[tuple[int, int]] = field(default_factory=Counter)
    labelled: Counter[tuple[int, int]] = field(default_factory=Counter)
    _wrong: list[int] = field(default_factory=lambda: [0, 0])
    _hourly: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def add(self, prediction: Prediction, example: Example, confidence: float | None) -> None:
        """Count one row. `confidence`: the highest score of a class."""
        if example.truth_class is not None and type(example.predicted) is int:
            counts = self.confusions.setdefault(prediction.version, Counter())
            counts[example.truth_class, example.predicted] += 1
        if (wrong := example.outcomes.get("wrong")) is not None:
            self._judge(prediction, wrong < 1, confidence)
        if example.kind is Kind.MULTILABEL and wrong is not None:
            self._count_labels(prediction.version, example)

    @property
    def wrong(self) -> Rate:
        """Wrong rows among those whose class or labels are known."""
        return Rate(*self._wrong)

    @property
    def hourly(self) -> Mapping[tuple[int, int], Rate]:
        """The accuracy by hour and version, in order."""
        return {key: Rate(*counts) for key, counts in sorted(self._hourly.items())}

    @property
    def confusion(self) -> Counter[tuple[int, int]]:
        """The rows by (truth, predicted), of all versions."""
        return sum(self.confusions.values(), Counter())

    def recalls(self) -> Mapping[int, Mapping[int, Rate]]:
        """By class or label, then by version: the share of its rows that were given it."""
        found: dict[int, dict[int, list[int]]] = {}
        for version, counts in self.confusions.items():
            for (truth, predicted), rows in counts.items():
                _count(found, truth, version, rows * (truth == predicted), rows)
        for (version, label), rows in self.labelled.items():
            _count(found, label, version, self.hits[version, label], rows)
        return {
            name: {version: Rate(*counts) for version, counts in sorted(versions.items())}
            for name, versions in sorted(found.items())
        }

    def _judge(self, prediction: Prediction, correct: bool, confidence: float | None) -> None:
        hour = self._hourly.setdefault((prediction.time_ns // HOUR_NS, prediction.version), [0, 0])
        for counts, hit in ((hour, correct), (self._wrong, not correct)):
            counts[0] += hit
            counts[1] += 1
        if confidence is not None and 0 <= confidence <= 1 + 1e-6:
            self.confidence[min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1), correct] += 1

    def _count_labels(self, version: int, example: Example) -> None:
        said = label_set(example.predicted, ()) or frozenset()
        for label in example.true_labels:
            self.labelled[version, label] += 1
            self.hits[version, label] += label in said


def _count(found: dict[int, dict[int, list[int]]], name: int, version: int, hits: int, rows: int) -> None:
    counts = found.setdefault(name, {}).setdefault(version, [0, 0])
    counts[0] += hits
    counts[1] += rows
