"""Compares what two answers predict, row by row, and both with the truth where it is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from gateway.errors import RequestError
from gateway.offline.examples import Predicting, examples_of
from gateway.offline.merged_feedback import StoredFeedback
from gateway.offline.replay.runner import Rerun
from gateway.offline.row_outcomes import of_class, outcomes_of
from gateway.offline.statistics import Rate
from gateway.protocol.tensors import Array, Tensor
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind

COSINE: Final = 0.99  # two vectors agree from this similarity on
OF_THE_RANGE: Final = 0.01  # two numbers agree within this share of the range that model.yaml gives
RELATIVE_TOLERANCE: Final = 0.01  # or of the recorded number, if it gives neither tolerance nor range


@dataclass(frozen=True, slots=True)
class Agreeing:
    """What is predicted, and when two predictions agree: numbers within `tolerance` (None: 1% of the recorded one),
    vectors from the similarity `cosine` on.
    """

    predicting: Predicting = field(default_factory=Predicting)
    tolerance: float | None = None
    cosine: float = COSINE


@dataclass(slots=True)
class Judgement:
    """Rows of both answers, compared. `agreed` of `compared`; of `labelled` rows with a truth the losses then and now.

    `right_then` and `right_now`: rows without a loss; `fixed` and `regressed`: those that became right or wrong, of
    numbers and rankings those whose loss fell or rose. `least`: the least cosine similarity of two vectors.
    """

    kind: Kind | None = None
    compared: int = 0
    agreed: int = 0
    labelled: int = 0
    right_then: int = 0
    right_now: int = 0
    fixed: int = 0
    regressed: int = 0
    loss_then: float = 0.0
    loss_now: float = 0.0
    least: float = 1.0

    def add(self, rerun: Rerun, agreeing: Agreeing) -> None:
        """Compare the rows of one prediction."""
        prediction, feedback = rerun.prediction, rerun.feedback
        then = examples_of(prediction, feedback, _outputs(prediction), agreeing.predicting)
        kind = agreeing.predicting.kind or then[0].kind
        predicted = None if rerun.predicted is None else int(rerun.predicted)
        again = replace(prediction, predicted=predicted, predictions=None)
        now = examples_of(again, NO_FEEDBACK, rerun.outputs, replace(agreeing.predicting, kind=kind))
        self.kind = self.kind or kind
        if kind in (Kind.EMBEDDING, Kind.RANKING):
            self._add_arrays(kind, _array(_outputs(prediction), agreeing), _array(rerun.outputs, agreeing), agreeing)
        for one, other in zip(then, now, strict=False):
            if one.predicted is None or other.predicted is None:
                continue
            if kind is not Kind.RANKING:
                self.compared += 1
                self.agreed += _agree(one.predicted, other.predicted, agreeing)
            if kind is Kind.CLASSIFICATION:
                if one.truth_class is not None:
                    wrong = [of_class(one.truth_class == each.predicted)["loss"] for each in (one, other)]
                    self._judge(*wrong)
                continue
            truth = sorted(one.true_labels) if one.true_labels else one.truth
            sizes = len(agreeing.predicting.labels)
            losses = [outcomes_of(kind, each.predicted, truth, sizes).get("loss") for each in (one, other)]
            if losses[0] is not None and losses[1] is not None and kind is not Kind.RANKING:
                self._judge(losses[0], losses[1])

    @property
    def agreement(self) -> Rate:
        """The share of compared rows that agree."""
        return Rate(self.agreed, self.compared)

    @property
    def accuracy_then(self) -> Rate:
        """The share of rows that the recorded answers got right, of those with a known truth."""
        return Rate(self.right_then, self.labelled)

    @property
    def accuracy_now(self) -> Rate:
        """The share that the replayed answers get right, of the same rows."""
        return Rate(self.right_now, self.labelled)

    @property
    def mean_losses(self) -> tuple[float, float]:
        """The mean losses of the recorded and of the replayed answers; NaN without a truth."""
        if not self.labelled:
            return math.nan, math.nan
        return self.loss_then / self.labelled, self.loss_now / self.labelled

    def _judge(self, then: float, now: float) -> None:
        self.labelled += 1
        self.loss_then += then
        self.loss_now += now
        self.right_then += not then
        self.right_now += not now
        self.fixed += now < then
        self.regressed += now > then

    def _add_arrays(self, kind: Kind, then: Array | None, now: Array | None, agreeing: Agreeing) -> None:
        """Vectors by their cosine, ranked lists by their order."""
        if then is None or now is None or then.shape != now.shape:
            return
        for one, other in zip(then, now, strict=True):
            self.compared += 1
            if kind is Kind.RANKING:
                self.agreed += bool((np.argsort(-one, kind="stable") == np.argsort(-other, kind="stable")).all())
            else:
                similarity = cosine(one, other)
                self.least = min(self.least, similarity)
                self.agreed += similarity >= agreeing.cosine


NO_FEEDBACK: Final = StoredFeedback()


def cosine(one: Array, other: Array) -> float:
    """The cosine similarity of two vectors; 1 for two zeros, 0 for one, -1 if a number is not finite."""
    lengths = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    if not all(map(math.isfinite, lengths)):
        return -1.0
    if not all(lengths):
        return float(lengths[0] == lengths[1])
    return float(np.dot(one.ravel(), other.ravel()) / (lengths[0] * lengths[1]))


def _agree(then: Any, now: Any, agreeing: Agreeing) -> bool:
    if type(then) is list or type(now) is list:
        return sorted(then) == sorted(now)
    if type(then) is int and type(now) is int:
        return then == now
    tolerance = RELATIVE_TOLERANCE * abs(then) if agreeing.tolerance is None else agreeing.tolerance
    return bool(abs(then - now) <= tolerance)


def _outputs(prediction: Prediction) -> Sequence[Tensor]:
    try:
        return prediction.outputs()
    except (RequestError, ValueError):
        return ()


def _array(outputs: Sequence[Tensor], agreeing: Agreeing) -> Array | None:
    """The vectors or scores of each row, [rows, n]; a column of scores is one list."""
    for tensor in outputs:
        if agreeing.predicting.output in (None, tensor.name) and tensor.datatype.startswith("FP") and tensor.data.ndim:
            data = tensor.data.astype(np.float64)
            is_list = data.ndim == 1 or data.shape[-1] == 1
            return data.reshape(1, -1) if is_list else data.reshape(len(data), -1)
    return None
