"""Whether the candidate's answer to a mirrored request agrees with stable's, by the kind of each output."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from gateway.backends.onnx import Result
from gateway.backends.predictions import OutputPrediction
from gateway.backends.version import ModelVersion
from gateway.settings.model import Kind, PredictionSettings

TOLERANCE: Final = 0.01  # relative distance up to which numbers agree; of a regression with a range: the share of it
COSINE: Final = 0.99  # cosine similarity from which vectors agree
_Agree = Callable[[OutputPrediction, Sequence[Result], OutputPrediction, Sequence[Result]], bool]


def agreement(
    stable: ModelVersion,
    answer: Sequence[Result],
    candidate: ModelVersion,
    theirs: Sequence[Result],
    distance: float | None,
) -> bool:
    """Whether every output that is of some kind in both versions agrees; if there is none, whether the numbers do.

    `distance`: of all floats, relative to stable's; None if they cannot be compared.
    """
    others = {output.output: output for output in candidate.predictions.outputs}
    both = [
        (output, other)
        for output in stable.predictions.outputs
        if (other := others.get(output.output)) is not None and output.kind is other.kind and output.kind in _AGREE
    ]
    if not both:
        return distance is not None and distance <= TOLERANCE
    return all(_AGREE[output.kind](output, answer, other, theirs) for output, other in both)


def _same_rows(
    output: OutputPrediction, answer: Sequence[Result], other: OutputPrediction, theirs: Sequence[Result]
) -> bool:
    return output.rows(answer) == other.rows(theirs)


def _close(
    output: OutputPrediction, answer: Sequence[Result], other: OutputPrediction, theirs: Sequence[Result]
) -> bool:
    """Whether the number of each row is within the tolerance."""
    mine, others = output.rows(answer), other.rows(theirs)
    if len(mine) != len(others) or [row is None for row in mine] != [row is None for row in others]:
        return False
    return all(
        abs(one - two) <= _tolerance(output.settings, one)
        for one, two in zip(mine, others, strict=True)
        if one is not None
    )


def _tolerance(settings: PredictionSettings, value: float) -> float:
    """How far from `value`, stable's, the candidate's number may be, in the output's unit."""
    if settings.tolerance is not None:
        return settings.tolerance
    if settings.range is not None:
        return TOLERANCE * (settings.range[1] - settings.range[0])
    return TOLERANCE * abs(value)


def _similar(
    output: OutputPrediction, answer: Sequence[Result], other: OutputPrediction, theirs: Sequence[Result]
) -> bool:
    """Whether the vector of each row points the same way."""
    mine, others = answer[output.position], theirs[other.position]
    if mine is None or others is None or mine.shape != others.shape or not mine.ndim:
        return False
    one, two = (array.reshape(len(array), -1).astype(np.float64) for array in (mine, others))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    least = COSINE if output.settings.cosine is None else output.settings.cosine
    same = (one == two).all(axis=1)  # vectors of zeros have no direction
    return bool((same | ((one * two).sum(axis=1) >= least * lengths) & (lengths > 0)).all())


def _same_order(
    output: OutputPrediction, answer: Sequence[Result], other: OutputPrediction, theirs: Sequence[Result]
) -> bool:
    """Whether the items are in the same order."""
    mine, others = answer[output.position], theirs[other.position]
    if mine is None or others is None or mine.shape != others.shape:
        return False
    axis = 0 if mine.ndim < 2 or mine.shape[1] == 1 else 1
    one, two = (np.argsort(-array.astype(np.float64), axis=axis, kind="stable") for array in (mine, others))
    return bool((one == two).all())


_AGREE: Final[Mapping[Kind, _Agree]] = {
    Kind.CLASSIFICATION: _same_rows,
    Kind.MULTILABEL: _same_rows,
    Kind.REGRESSION: _close,
    Kind.RANKING: _same_order,
    Kind.EMBEDDING: _similar,
}
