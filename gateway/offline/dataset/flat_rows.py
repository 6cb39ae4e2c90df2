"""The rows of one prediction for a flat export: what went in, what was predicted, and what is true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.errors import InvalidRequest
from gateway.offline.dataset.schema import Tensors
from gateway.offline.examples import Example, Predicting, examples_of
from gateway.offline.merged_feedback import StoredFeedback
from gateway.protocol.tensors import Array, Tensor
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind

TEXT: Final = "BYTES"
REMEDY: Final = "export it without flat"


@dataclass(frozen=True, slots=True)
class FlatPrediction:
    """One prediction, row by row: its examples, their inputs [rows, columns] by name, and scores [rows, classes]."""

    examples: Sequence[Example]
    inputs: Mapping[str, Array]
    scores: Array | None


def flat_prediction(
    prediction: Prediction, tensors: Tensors, feedback: StoredFeedback, predicting: Predicting
) -> FlatPrediction | None:
    """The rows of a prediction; None if it was not answered, or not recorded in full. Raises InvalidRequest if an
    input has no rows.
    """
    if not prediction.ok or tensors.unreadable:
        return None
    outputs = list(tensors.outputs.values())
    examples = examples_of(prediction, feedback, outputs, predicting)
    rows = len(examples)
    inputs: dict[str, Array] = {}
    for tensor in tensors.inputs.values():
        if not tensor.data.ndim or tensor.data.shape[0] != rows:
            if all(example.predicted is None for example in examples):
                return None  # how many rows were predicted is not known
            raise InvalidRequest(
                f"input '{tensor.name}' of shape {list(tensor.data.shape)} does not have a row for each of {rows}"
                f" predictions; {REMEDY}"
            )
        inputs[tensor.name] = _texts(tensor).reshape(rows, -1) if tensor.datatype == TEXT else _by_row(tensor, rows)
    return FlatPrediction(examples, inputs, scores_of(examples, outputs, predicting))


def scores_of(examples: Sequence[Example], outputs: Sequence[Tensor], predicting: Predicting) -> Array | None:
    """The scores of each row's classes or labels, [rows, classes]; None if the outputs have none."""
    if all(example.scores is not None for example in examples):
        return np.stack([np.asarray(example.scores) for example in examples])
    for tensor in outputs:
        data, scored = tensor.data, tensor.datatype.startswith("FP") and tensor.data.shape[:1] == (len(examples),)
        if tensor.name != predicting.output or not scored:
            continue
        if examples[0].kind is Kind.MULTILABEL and data.ndim == 2:
            return data
        if examples[0].kind is Kind.CLASSIFICATION and data.size == len(data) and len(predicting.labels) == 2:
            second = data.reshape(-1, 1)  # the probability of the second class
            return np.concatenate([1 - second, second], axis=1)
    return None


def _by_row(tensor: Tensor, rows: int) -> Array:
    return tensor.data.reshape(rows, -1)


def _texts(tensor: Tensor) -> Array:
    """The elements as text. Raises InvalidRequest if one is none."""
    try:
        texts = [one if isinstance(one, str) else one.decode() for one in tensor.data.ravel().tolist()]
    except UnicodeDecodeError:
        raise InvalidRequest(f"input '{tensor.name}' holds bytes that are no text; {REMEDY}") from None
    return np.array(texts, object)
