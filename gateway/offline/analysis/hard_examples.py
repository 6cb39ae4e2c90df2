"""Finds predictions worth labelling: those with the least confidence, and those on which both versions disagree."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateway.offline.analysis.input_summary import InputSummary, key_of, summary_of
from gateway.offline.feedback_store import StoredFeedback
from gateway.offline.statistics import Rate
from gateway.protocol.tensors import Tensor
from gateway.records.prediction import Prediction

MAX_EXAMPLES: Final = 20
MAX_DISAGREEMENTS: Final = 100_000  # mirrored answers kept, to be matched with their predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class HardExample:
    """A prediction to label. `margin`: the highest score minus the second.

    `other`: the class that the candidate predicts, if it disagrees; `distance`: between the scores of both versions.
    """

    prediction_id: str
    customer: str | None
    predicted: int | None
    margin: float | None
    input: InputSummary
    other: int | None = None
    distance: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the candidate's mirrored answer agreed; and which version was right if not and the truth is known."""

    same: Rate
    stable_right: int
    candidate_right: int
    neither_right: int


class TopK:
    """Collects the `MAX_EXAMPLES` predictions with the highest score of all offered, one for each distinct input."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, bytes, HardExample]] = []
        self._keys: set[bytes] = set()
        self._passed = 0

    def offer(self, score: float, prediction: Prediction, inputs: Sequence[Tensor], **more: Any) -> None:
        """Consider one prediction. `more`: further fields of its HardExample."""
        self._passed += 1
        if len(self._heap) == MAX_EXAMPLES and score <= self._heap[0][0]:
            return
        key = key_of(prediction, inputs) or prediction.prediction_id.encode()
        if key in self._keys:
            return
        summary = summary_of(prediction, inputs)
        example = HardExample(
            prediction_id=prediction.prediction_id,
            customer=prediction.customer,
            predicted=prediction.predicted,
            input=summary,
            **more,
        )
        if len(self._heap) == MAX_EXAMPLES:
            self._keys.discard(heapq.heappop(self._heap)[2])
        heapq.heappush(self._heap, (score, -self._passed, key, example))
        self._keys.add(key)

    def examples(self) -> list[HardExample]:
        """Return the collected predictions, highest score first."""
        return [example for *_, example in sorted(self._heap, reverse=True, key=lambda entry: entry[:2])]


class HardExamples:
    """Collects hard examples, prediction by prediction. `mirrors`: records of that stream; `scores`: name of the output
    with the class scores, None if unknown.
    """

    def __init__(self, mirrors: Iterable[dict[str, Any]], scores: str | None) -> None:
        self._scores = scores
        self._least_confident = TopK()
        self._disagreements = TopK()
        self._others: dict[str, dict[str, Any]] = {}
        self._same, self._mirrored = 0, 0
        self._right = {"stable": 0, "candidate": 0, "neither": 0}
        for mirror in mirrors:
            if mirror.get("agreement") is not None:
                self._same += mirror["agreement"]
                self._mirrored += 1
            if mirror.get("agreement") is False and len(self._others) < MAX_DISAGREEMENTS:
                self._others[mirror["prediction_id"]] = mirror

    def add(
        self, prediction: Prediction, feedback: StoredFeedback, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> float | None:
        """Add one prediction; returns the confidence of its answer, the highest class score, or None if unknown."""
        first, second = _two_highest(outputs, self._scores)
        margin = None if first is None or second is None else first - second
        other = self._others.get(prediction.prediction_id)
        if feedback.truth is None:
            if margin is not None:
                self._least_confident.offer(-margin, prediction, inputs, margin=margin)
            if other is not None:
                distance = other.get("distance")
                self._disagreements.offer(
                    distance or 0.0, prediction, inputs, margin=margin, other=other.get("predicted"), distance=distance
                )
        elif other is not None and feedback.truth_class is not None:
            truth, candidate = feedback.truth_class, other.get("predicted")
            right = "stable" if truth == prediction.predicted else "candidate" if truth == candidate else "neither"
            self._right[right] += 1
        return first

    @property
    def least_confident(self) -> list[HardExample]:
        """Predictions without a truth, the smallest margin first."""
        return self._least_confident.examples()

    @property
    def disagreements(self) -> list[HardExample]:
        """Predictions without a truth on which the candidate disagrees, the greatest distance first."""
        return self._disagreements.examples()

    @property
    def agreement(self) -> Agreement:
        """The agreement of both versions over all mirrored requests."""
        right = self._right
        return Agreement(Rate(self._same, self._mirrored), right["stable"], right["candidate"], right["neither"])


def _two_highest(outputs: Sequence[Tensor], name: str | None) -> tuple[float | None, float | None]:
    """The two highest scores of a one-row answer, highest first, in the output `name`; None: the first output with the
    form of scores.
    """
    for tensor in outputs:
        is_scores = tensor.datatype.startswith("FP") and len(tensor.shape) == 2 and tensor.shape[0] == 1
        if is_scores and tensor.shape[1] > 1 and name in (None, tensor.name) and np.isfinite(tensor.data).all():
            second, first = np.partition(tensor.data[0].astype(np.float64), -2)[-2:].tolist()
            return first, second
    return None, None
