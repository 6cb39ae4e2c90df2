"""The classification extension: the highest scores of an output, as strings "value:index:label"."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.errors import InvalidRequest
from gateway.protocol.tensors import Array, Tensor

NO_CLASS: Final = -1  # in the place of a predicted class's index, where there is none
NO_LIMIT: Final = 2**40
FEW_CLASSES: Final = 10  # up to this many classes, repeated argmax is quicker than sorting all scores
MAX_SORTED_FACTOR: Final = 40  # upper bound of scores to sort, per class that the limit allows


def classify(tensor: Tensor, classes: int, labels: Sequence[str], most: int = NO_LIMIT) -> Tensor:
    """Return the `classes` highest scores along the last axis of `tensor`, highest first; ties in index order.

    [rows, classes] FP32 becomes [rows, n] BYTES. Without labels, the third part of each string is omitted. NaN sorts
    before all numbers, so that a row with NaN scores does not appear to have a best class. One probability per row and
    two labels are binary classification: the probability is that of the second label. Raises InvalidRequest if the
    output holds no scores, or if the answer would name more than `most` classes over all rows.
    """
    scores = tensor.data
    if scores.ndim == 0 or tensor.datatype in ("BYTES", "BOOL"):
        raise InvalidRequest(
            f"output '{tensor.name}': {tensor.datatype} {list(tensor.shape)} has no scores to classify"
        )
    if len(labels) == 2 and scores.ndim == 2 and scores.shape[1] == 1 and tensor.datatype.startswith("FP"):
        scores = np.concatenate([1 - scores, scores], axis=1)
    top = min(classes, scores.shape[-1])
    rows = scores.size // (scores.shape[-1] or 1)
    if rows * top > most or scores.size > most * MAX_SORTED_FACTOR:
        raise InvalidRequest(
            f"output '{tensor.name}': {top} of {scores.shape[-1]} classes for {rows} rows are more than limits.classes,"
            f" {most}, allows; ask for fewer classes, or send fewer rows at a time"
        )
    result = np.empty((rows, top), object)
    flat = scores.reshape(rows, scores.shape[-1])
    order = _highest(flat, top)
    named = [f":{label}" for label in labels]
    values = np.take_along_axis(flat, order, axis=1).astype(np.float64)
    for row, (indices, row_values) in enumerate(zip(order.tolist(), values.tolist(), strict=True)):
        result[row] = [
            f"{value:f}:{index}{named[index] if index < len(named) else ''}"
            for index, value in zip(indices, row_values, strict=True)
        ]
    return Tensor(tensor.name, "BYTES", result.reshape(*scores.shape[:-1], top))


def _highest(scores: Array, top: int) -> npt.NDArray[Any]:
    """Return the indices of the `top` highest scores of each row."""
    if top <= FEW_CLASSES and scores.dtype.kind == "f" and scores.size and not np.isneginf(scores).any():
        return _one_by_one(scores, top)
    width = scores.shape[1]
    ascending = np.argsort(scores[:, ::-1], axis=1, kind="stable")
    order: npt.NDArray[Any] = (width - 1 - ascending)[:, ::-1][:, :top]
    return order


def _one_by_one(scores: Array, top: int) -> npt.NDArray[Any]:
    """The same by repeated argmax, which takes the first of equal scores, and NaN before all numbers."""
    left = scores.copy()
    order = np.empty((len(scores), top), np.intp)
    rows = np.arange(len(scores))
    for place in range(top):
        order[:, place] = left.argmax(axis=1)
        left[rows, order[:, place]] = -np.inf
    return order
