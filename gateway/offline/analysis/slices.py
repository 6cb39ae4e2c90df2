"""Finds slices of the traffic in which the model is significantly worse than in the rest."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np

from gateway.offline.feedback_store import StoredFeedback
from gateway.offline.statistics import Fisher, Rate, q_values
from gateway.protocol.tensors import Tensor
from gateway.records.prediction import Prediction

MIN_ROWS: Final = 10  # rows; smaller slices are not tested
FALSE_DISCOVERY_RATE: Final = 0.05  # expected share of the reported slices that are due to chance
MAX_FEATURES: Final = 64
MAX_ROWS: Final = 200_000  # whose features are kept; of more rows, an even sample
_QUARTILES: Final = (0.25, 0.5, 0.75)
_MEDIA: Final = frozenset({"image", "audio", "video", "text"})


class Measure(StrEnum):
    """What is counted: wrong answers among those with a truth; rescues among the candidate's requests."""

    WRONG = "wrong"
    RESCUED = "rescued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of the rows: the rate of `measure` in it and in the rest, and the p-value of the difference.

    `q_value`: the false discovery rate at which the slice is significant, given all tests.
    """

    measure: Measure
    dimension: str
    value: str
    rate: Rate
    rest: Rate
    p_value: float
    q_value: float


Part = tuple[str, str]  # a dimension and a value of it


class Slicer:
    """Counts rows by slice, then tests all slices."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._totals = {measure: [0, 0] for measure in Measure}
        self._counts: dict[tuple[Measure, Part], list[int]] = {}
        self._features = Features()

    def add(self, prediction: Prediction, feedback: StoredFeedback, inputs: Sequence[Tensor]) -> None:
        """Count one row."""
        parts = list(_parts(prediction, self._labels))
        wrong = None if feedback.correct is None else not feedback.correct
        rescued = prediction.rescued_from is not None
        if wrong is not None:
            self._count(Measure.WRONG, parts, wrong)
        if rescued or prediction.variant == "candidate":
            self._count(Measure.RESCUED, [part for part in parts if part[0] not in ("version", "variant")], rescued)
        if wrong is not None and prediction.modality not in _MEDIA:
            self._features.add(inputs, wrong)

    def total(self, measure: Measure) -> Rate:
        """The rate over all rows that the measure applies to."""
        return Rate(*self._totals[measure])

    def worse(self) -> tuple[list[Slice], int]:
        """Return the slices that are significantly worse than the rest, lowest q-value first, and the number tested."""
        tested = [*self._tested(), *self._features.tested()]
        adjusted = q_values([test.p_value for test in tested])
        slices = [
            replace(test, q_value=q_value)
            for test, q_value in zip(tested, adjusted, strict=True)
            if q_value <= FALSE_DISCOVERY_RATE
        ]
        return sorted(slices, key=lambda one: (one.q_value, -one.rate.value)), len(tested)

    def _count(self, measure: Measure, parts: list[Part], hit: bool) -> None:
        for counts in (self._totals[measure], *(self._counts.setdefault((measure, part), [0, 0]) for part in parts)):
            counts[0] += hit
            counts[1] += 1

    def _tested(self) -> Iterator[Slice]:
        tests = {measure: Fisher(self.total(measure)) for measure in Measure}
        for (measure, part), counts in self._counts.items():
            yield from _test(tests[measure], measure, part, Rate(*counts), self.total(measure))


class Features:
    """The input features of a tabular model; each is split at its quartiles into slices."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
        self._wrong: list[bool] = []
        self._seen = 0
        self._every = 1

    def add(self, inputs: Sequence[Tensor], wrong: bool) -> None:
        """Keep the features of one request, if it is one row of at most `MAX_FEATURES` numbers."""
        if any(tensor.datatype == "BYTES" or tensor.shape[:1] != (1,) for tensor in inputs):
            return
        if not 0 < sum(tensor.data.size for tensor in inputs) <= MAX_FEATURES:
            return
        names = [name for tensor in inputs for name in _feature_names(tensor)]
        self._names = self._names or names
        self._seen += 1
        if names == self._names and self._seen % self._every == 0:
            self._rows.append(np.concatenate([tensor.data.ravel().astype(np.float32) for tensor in inputs]))
            self._wrong.append(wrong)
            if len(self._rows) == MAX_ROWS:
                self._rows, self._wrong, self._every = self._rows[1::2], self._wrong[1::2], self._every * 2

    def tested(self) -> Iterator[Slice]:
        """Test each quarter of each feature."""
        if not self._rows:
            return
        table, wrong = np.stack(self._rows), np.array(self._wrong)
        total = Rate(int(wrong.sum()), len(wrong))
        test = Fisher(total)
        for name, column in zip(self._names, table.T, strict=True):
            for value, chosen in _quarters(column):
                rate = Rate(int(wrong[chosen].sum()), int(chosen.sum()))
                yield from _test(test, Measure.WRONG, (name, value), rate, total)


def _parts(prediction: Prediction, labels: Sequence[str]) -> Iterator[Part]:
    predicted = prediction.predicted
    if predicted is not None:
        yield "predicted class", labels[predicted] if 0 <= predicted < len(labels) else str(predicted)
    yield "customer", prediction.customer or "(none)"
    yield "modality", prediction.modality or "(none)"
    yield "route", prediction.route or "(none)"
    yield "variant", prediction.variant
    yield "version", str(prediction.version)


def _test(test: Fisher, measure: Measure, part: Part, rate: Rate, total: Rate) -> Iterator[Slice]:
    rest = Rate(total.hits - rate.hits, total.count - rate.count)
    if rate.count >= MIN_ROWS and rest.count >= MIN_ROWS:
        dimension, value = part
        p_value = test.p_value(rate)
        yield Slice(
            measure=measure, dimension=dimension, value=value, rate=rate, rest=rest, p_value=p_value, q_value=1.0
        )


def _feature_names(tensor: Tensor) -> list[str]:
    return [tensor.name] if tensor.data.size == 1 else [f"{tensor.name}[{index}]" for index in range(tensor.data.size)]


def _quarters(
    column: "np.ndarray[tuple[int], np.dtype[np.float32]]",
) -> Iterator[tuple[str, "np.ndarray[tuple[int], np.dtype[np.bool_]]"]]:
    """Yield each quarter's name and a mask of its rows. Missing values (NaN) are a slice of their own."""
    missing = np.isnan(column)
    if missing.any():
        yield "missing", missing
    there = column[~missing]
    edges = np.unique(np.quantile(there, _QUARTILES)) if len(there) else np.empty(0)
    if not len(edges) or there.min() == there.max():
        return
    bounds = [-np.inf, *edges, np.inf]
    for low, high in itertools.pairwise(bounds):
        chosen = (column > low) & (column <= high)
        if chosen.any():
            yield _range(low, high), chosen


def _range(low: float, high: float) -> str:
    if low == -np.inf:
        return f"up to {high:.4g}"
    return f"over {low:.4g}" if high == np.inf else f"{low:.4g} to {high:.4g}"
