"""Finds rows worth labelling: those with the least confidence, and those on which both versions disagree; and of those
with a truth the ones that are furthest off.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from gateway.errors import RequestError
from gateway.offline.analysis.input_summary import InputSummary, key_of, summary_of
from gateway.offline.examples import Example, Predicting, predicted_rows
from gateway.offline.statistics import Rate
from gateway.offline.top_k import TopK
from gateway.protocol.decode import decode_outputs
from gateway.protocol.tensors import Array, Tensor
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind

MAX_EXAMPLES: Final = 20
MAX_DISAGREEMENTS: Final = 100_000  # mirrored answers kept, to be matched with their predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class HardExample:
    """A row to label, or to look at. `margin`: the highest score minus the second.

    `other`: what the candidate predicts, if it disagrees; `distance`: between the answers of both versions. `truth` and
    `loss`: of a row whose truth is known.
    """

    prediction_id: str
    row: int
    customer: str | None
    predicted: Any
    input: InputSummary
    margin: float | None = None
    other: Any = None
    distance: float | None = None
    truth: Any = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """A row without a truth, of a request of `rows`. `inputs`: of the row; `score`: the highest one, `margin`: that
    minus the second.

    `other`: what the candidate, `other_version`, predicts, if it disagrees, and `distance` between their answers.
    """

    prediction: Prediction
    example: Example
    inputs: Sequence[Tensor]
    rows: int
    score: float | None = None
    margin: float | None = None
    other: Any = None
    other_version: int | None = None
    distance: float | None = None


OnUnlabelled = Callable[[Unlabelled], None]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the candidate's mirrored answer agreed; and which version was right if not and the truth is known.

    Of numbers, the one that is closer is right. `pairs`: what stable and the candidate said where they did not agree,
    the most frequent first.
    """

    same: Rate
    stable_right: int
    candidate_right: int
    neither_right: int
    pairs: Sequence[tuple[int, int, int]] = ()


class HardExamples:
    """Collects hard examples, row by row. `mirrors`: records of that stream. `to_label`: called for each row without a
    truth.
    """

    def __init__(
        self, mirrors: Iterable[dict[str, Any]], predicting: Predicting, to_label: OnUnlabelled | None = None
    ) -> None:
        self._predicting = predicting
        self._to_label = to_label
        self._least_confident = TopK[HardExample](MAX_EXAMPLES)
        self._disagreements = TopK[HardExample](MAX_EXAMPLES)
        self._worst = TopK[HardExample](MAX_EXAMPLES)
        self._others: dict[str, dict[str, Any]] = {}
        self._same, self._mirrored = 0, 0
        self._right = {"stable": 0, "candidate": 0, "neither": 0}
        self._pairs: Counter[tuple[int, int]] = Counter()
        for mirror in mirrors:
            if mirror.get("agreement") is not None:
                self._same += mirror["agreement"]
                self._mirrored += 1
            if mirror.get("agreement") is False and len(self._others) < MAX_DISAGREEMENTS:
                self._others[mirror["prediction_id"]] = mirror

    def add(self, prediction: Prediction, example: Example, inputs: Sequence[Tensor], rows: int) -> float | None:
        """Add one row of `rows`; returns the confidence of its answer, the highest class score, or None if unknown."""
        first, second = _two_highest(example.scores)
        margin = None if first is None or second is None else first - second
        mirror = self._others.get(prediction.prediction_id)
        other = None if mirror is None else _mirrored(mirror, example, self._predicting)
        if type(other) is int and type(example.predicted) is int and other != example.predicted:
            self._pairs[example.predicted, other] += 1
        if example.truth is None:
            disagrees = mirror is not None and other != example.predicted
            distance = mirror.get("distance") if mirror is not None else None
            if margin is not None:
                _offer(self._least_confident, -margin, prediction, example, inputs, margin=margin)
            if disagrees:
                more = {"margin": margin, "other": other, "distance": distance}
                _offer(self._disagreements, distance or 0.0, prediction, example, inputs, **more)
            if self._to_label is not None:
                row = Unlabelled(prediction, example, inputs, rows, first, margin)
                if mirror is not None and disagrees:
                    row = replace(row, other=other, other_version=mirror.get("version"), distance=distance)
                self._to_label(row)
        elif mirror is not None and (right := _right(example, other)):
            self._right[right] += 1
        loss = example.outcomes.get("loss")
        if loss and example.kind not in (None, Kind.CLASSIFICATION):
            _offer(self._worst, loss, prediction, example, inputs, truth=example.truth, loss=loss)
        return first

    @property
    def least_confident(self) -> list[HardExample]:
        """Rows without a truth, the smallest margin first."""
        return [example for _, example in self._least_confident.items()]

    @property
    def disagreements(self) -> list[HardExample]:
        """Rows without a truth on which the candidate disagrees, the greatest distance first."""
        return [example for _, example in self._disagreements.items()]

    @property
    def worst(self) -> list[HardExample]:
        """Rows with a truth, the greatest loss first; none for classes, where all wrong ones are alike."""
        return [example for _, example in self._worst.items()]

    @property
    def agreement(self) -> Agreement:
        """The agreement of both versions over all mirrored requests."""
        right = self._right
        pairs = [(stable, candidate, count) for (stable, candidate), count in self._pairs.most_common(MAX_EXAMPLES)]
        return Agreement(Rate(self._same, self._mirrored), right["stable"], right["candidate"], right["neither"], pairs)


def _offer(
    top: TopK[HardExample],
    score: float,
    prediction: Prediction,
    example: Example,
    inputs: Sequence[Tensor],
    **more: Any,
) -> None:
    """Consider one row. `inputs`: of the row; `more`: further fields of its HardExample."""
    top.offer(
        score,
        lambda: key_of(prediction, inputs, example.row) or f"{prediction.prediction_id} {example.row}".encode(),
        lambda: HardExample(
            prediction_id=prediction.prediction_id,
            row=example.row,
            customer=prediction.customer,
            predicted=example.predicted,
            input=summary_of(prediction, inputs),
            **more,
        ),
    )


def _right(example: Example, other: Any) -> str:
    """Which version was right; empty if that is not known."""
    if example.truth_class is not None:
        if other == example.predicted:
            return ""
        truth = example.truth_class
        return "stable" if truth == example.predicted else "candidate" if truth == other else "neither"
    if example.kind is Kind.REGRESSION and "loss" in example.outcomes and type(other) in (int, float):
        mine, others = example.outcomes["loss"], abs(other - example.truth)
        return "stable" if mine < others else "candidate" if others < mine else "neither"
    return ""


def _mirrored(mirror: dict[str, Any], example: Example, predicting: Predicting) -> Any:
    """What the candidate answered for the row: as the record says, or by the output that holds the predictions."""
    predicted = mirror.get("predicted")
    if predicted is not None:
        return predicted
    if not isinstance(mirror.get("response"), dict):
        return None
    try:
        rows = predicted_rows(decode_outputs(mirror["response"], None), example.kind, predicting)
    except (RequestError, ValueError, TypeError, KeyError):
        return None
    return rows[example.row] if example.row < len(rows) else None


def _two_highest(scores: Array | None) -> tuple[float | None, float | None]:
    """The two highest scores, highest first."""
    if scores is None or not np.isfinite(scores).all():
        return None, None
    second, first = np.partition(scores.astype(np.float64), -2)[-2:].tolist()
    return first, second
