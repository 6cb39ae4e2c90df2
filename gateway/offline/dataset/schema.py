"""Finds the columns that an export needs. It takes one pass over the records, since all files must have the same
columns.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.errors import RequestError
from gateway.protocol.tensors import DATATYPES, Tensor
from gateway.records.prediction import Prediction, RawInput


class Side(StrEnum):
    """Whether a tensor is an input or an output."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class TensorColumn:
    """The column of one tensor. `text`: its datatype is BYTES and every element is valid UTF-8."""

    name: str
    side: Side
    tensor: str
    datatype: str
    text: bool


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of one prediction, by name. `unreadable`: they could not be decoded."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    unreadable: bool = False


def tensors_of(prediction: Prediction, raw_input: RawInput) -> Tensors:
    """Decode the tensors of one prediction; empty if they are not recorded."""
    try:
        inputs = prediction.decoded(raw_input).inputs if prediction.has_request else ()
        outputs = prediction.outputs()
    except (RequestError, ValueError, TypeError, KeyError):  # ValueError: invalid Base64; others: invalid V2 document
        return Tensors({}, {}, unreadable=True)
    return Tensors({tensor.name: tensor for tensor in inputs}, {tensor.name: tensor for tensor in outputs})


class Survey:
    """Collects the tensors of predictions to determine the columns. `rows`: how many predictions it has seen.

    `has_predictions`: whether a record says what was predicted for each row.
    """

    def __init__(self, raw_input: RawInput) -> None:
        self.rows = 0
        self.has_predictions = False
        self._raw_input = raw_input
        self._seen: Counter[tuple[Side, str, str]] = Counter()  # by side, tensor, datatype; in order of appearance
        self._no_text: set[tuple[Side, str]] = set()

    def add(self, prediction: Prediction) -> None:
        """Note the prediction's tensors."""
        self.rows += 1
        self.has_predictions |= prediction.predictions is not None
        if _is_plain(prediction):
            with suppress(TypeError, KeyError):  # not a valid V2 document, so without tensors
                self._seen.update(list(_named(prediction)))
            return
        tensors = tensors_of(prediction, self._raw_input)
        for side, found in ((Side.INPUT, tensors.inputs), (Side.OUTPUT, tensors.outputs)):
            for tensor in found.values():
                self._seen[side, tensor.name, tensor.datatype] += 1
                if tensor.datatype == "BYTES" and not all(map(_is_text, tensor.data.flat)):
                    self._no_text.add((side, tensor.name))

    def columns(self) -> list[TensorColumn]:
        """Return the columns `input_NAME` and `output_NAME`. A tensor that occurs with several datatypes (an output
        requested as classes is BYTES) has a column for each: all but the most frequent end in their datatype.
        """
        taken: set[tuple[Side, str]] = set()
        columns: list[TensorColumn] = []
        for (side, tensor, datatype), _ in self._seen.most_common():
            suffix = f"_{datatype.lower()}" if (side, tensor) in taken else ""
            taken.add((side, tensor))
            text = datatype == "BYTES" and (side, tensor) not in self._no_text
            name = _free(f"{side}_{tensor}{suffix}", {column.name for column in columns})
            columns.append(TensorColumn(name, side, tensor, datatype, text))
        places = list(self._seen)
        return sorted(columns, key=lambda column: places.index((column.side, column.tensor, column.datatype)))


def _free(name: str, taken: set[str]) -> str:
    """Append underscores to the name while it collides, such as the tensor `x_shape` with the shape column of `x`."""
    while name in taken or f"{name}_shape" in taken or name.removesuffix("_shape") in taken - {name}:
        name += "_"
    return name


def _is_plain(prediction: Prediction) -> bool:
    """Whether all tensors are in JSON, so that names and datatypes can be read without decoding."""
    return prediction.request_binary is None and prediction.response_binary is None


def _named(prediction: Prediction) -> Iterator[tuple[Side, str, str]]:
    sides: tuple[tuple[Side, dict[str, Any] | None, str], ...] = (
        (Side.INPUT, prediction.request, "inputs"),
        (Side.OUTPUT, prediction.response, "outputs"),
    )
    for side, document, key in sides:
        if document is not None:
            yield from (
                (side, tensor["name"], tensor["datatype"])
                for tensor in document[key]
                if tensor["datatype"] in DATATYPES and type(tensor["name"]) is str
            )


def _is_text(element: object) -> bool:
    if isinstance(element, str):
        return True
    try:
        return bool(isinstance(element, bytes) and element.decode() is not None)
    except UnicodeDecodeError:
        return False
