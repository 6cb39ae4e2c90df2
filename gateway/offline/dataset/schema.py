"""What columns an export needs. Records are read once for this, since every file must have the same ones."""

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
    """Which side of a model a tensor is on."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class TensorColumn:
    """The column of one tensor. `text`: BYTES of which every element is UTF-8."""

    name: str
    side: Side
    tensor: str
    datatype: str
    text: bool


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of one prediction. `unreadable`: it has some that are not what they say they are."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    unreadable: bool = False


def tensors_of(prediction: Prediction, raw_input: RawInput) -> Tensors:
    """The tensors of one prediction, by name; none where they are not recorded."""
    try:
        inputs = prediction.decoded(raw_input).inputs if prediction.has_request else ()
        outputs = prediction.outputs()
    except (RequestError, ValueError, TypeError, KeyError):  # ValueError: no Base64; the others: no V2 document
        return Tensors({}, {}, unreadable=True)
    return Tensors({tensor.name: tensor for tensor in inputs}, {tensor.name: tensor for tensor in outputs})


class Survey:
    """Looks at predictions, one after the other, and then knows the columns."""

    def __init__(self, raw_input: RawInput) -> None:
        self.rows = 0
        self._raw_input = raw_input
        self._seen: Counter[tuple[Side, str, str]] = Counter()  # by side, tensor, datatype; in order of appearance
        self._no_text: set[tuple[Side, str]] = set()

    def add(self, prediction: Prediction) -> None:
        """Take note of its tensors."""
        self.rows += 1
        if _is_plain(prediction):
            with suppress(TypeError, KeyError):  # no V2 document: it has no tensors
                self._seen.update(list(_named(prediction)))
            return
        tensors = tensors_of(prediction, self._raw_input)
        for side, found in ((Side.INPUT, tensors.inputs), (Side.OUTPUT, tensors.outputs)):
            for tensor in found.values():
                self._seen[side, tensor.name, tensor.datatype] += 1
                if tensor.datatype == "BYTES" and not all(map(_is_text, tensor.data.flat)):
                    self._no_text.add((side, tensor.name))

    def columns(self) -> list[TensorColumn]:
        """`input_NAME` and `output_NAME`. A tensor of several datatypes (an output asked for as classes is BYTES) has
        a column for each: the most frequent is named so, the others end in their datatype.
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
    """The name, prolonged where a tensor called `x_shape` stands beside one called `x`."""
    while name in taken or f"{name}_shape" in taken or name.removesuffix("_shape") in taken - {name}:
        name += "_"
    return name


def _is_plain(prediction: Prediction) -> bool:
    """All of its tensors are spelt out in JSON, and so need not be decoded to be known."""
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
