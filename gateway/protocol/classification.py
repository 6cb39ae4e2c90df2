"""The classification extension: the highest scores of an output, as strings "value:index:label"."""

from collections.abc import Sequence

import numpy as np

from gateway.errors import InvalidRequest
from gateway.tensors import Array, Tensor


def classify(tensor: Tensor, classes: int, labels: Sequence[str]) -> Tensor:
    """The `classes` highest scores along the last axis of `tensor`, highest first; ties in the order of the index.

    [rows, classes] FP32 becomes [rows, n] BYTES. Without labels the third part is left out. NaN comes before all
    numbers, so that a row of which no class can be told does not look like one that has a best class. One probability a
    row and two labels are two classes, of which it is the second's.
    """
    scores = tensor.data
    if scores.ndim == 0 or tensor.datatype in ("BYTES", "BOOL"):
        raise InvalidRequest(
            f"output '{tensor.name}': {tensor.datatype} {list(tensor.shape)} holds no scores to classify"
        )
    if len(labels) == 2 and scores.ndim == 2 and scores.shape[1] == 1 and tensor.datatype.startswith("FP"):
        scores = np.concatenate([1 - scores, scores], axis=1)
    top = min(classes, scores.shape[-1])
    ascending = np.argsort(scores[..., ::-1], axis=-1, kind="stable")
    order = (scores.shape[-1] - 1 - ascending)[..., ::-1][..., :top]
    result = np.empty(order.shape, object)
    for position in np.ndindex(order.shape):
        index = int(order[position])
        result[position] = _entry(scores, (*position[:-1], index), index, labels)
    return Tensor(tensor.name, "BYTES", result)


def _entry(scores: Array, position: tuple[int, ...], index: int, labels: Sequence[str]) -> str:
    label = f":{labels[index]}" if index < len(labels) else ""
    return f"{float(scores[position]):f}:{index}{label}"
