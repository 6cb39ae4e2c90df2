"""Numbers for any learner from a model's inputs, computed alike in Python and in the ONNX graph.

Numbers become 32-bit floats; what is missing (NaN, infinite, or too large to be squared) becomes the column's median,
with a column beside it that says so if training rows lacked it too. Strings are categories: a column of zeros and ones
for each.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MOST_CATEGORIES = 64  # the most frequent; all others are alike
TEXT_SHARE = 0.5  # of the rows: a column with more different strings is text, or names rows
LARGEST = np.float32(1e18)
FEW = 20  # different strings are categories however few the rows are


@dataclass(frozen=True, slots=True)
class Numbers:
    """An input of numbers. `medians`: [columns]; `lacking`: the columns in which training rows lack values."""

    name: str
    medians: Any
    lacking: Any

    @property
    def width(self) -> int:
        """How many features it gives."""
        return len(self.medians) + len(self.lacking)

    def encode(self, values: Any) -> Any:
        """The features, [rows, width]."""
        numbers = _as_float(values)
        there = _is_there(numbers)
        filled = np.where(there, numbers, self.medians[None])
        return np.concatenate([filled, (~there[:, self.lacking]).astype(np.float32)], axis=1)

    def add_to(self, graph: "GraphBuilder", tensor: str) -> str:
        """Add the same computation; return the name of its result."""
        there = graph.add("Less", [graph.add("Abs", [tensor]), graph.constant(LARGEST)])
        filled = graph.add("Where", [there, tensor, graph.constant(self.medians[None])])
        if not len(self.lacking):
            return filled
        missing = graph.add("Gather", [graph.add("Not", [there]), graph.constant(self.lacking)], axis=1)
        return graph.add("Concat", [filled, graph.add("Cast", [missing], to=TensorProto.FLOAT)], axis=1)


@dataclass(frozen=True, slots=True)
class Categories:
    """An input of strings. `known`: the categories of each column that is learned from, by its number."""

    name: str
    known: Mapping[int, Sequence[str]]

    @property
    def width(self) -> int:
        """How many features it gives."""
        return sum(map(len, self.known.values()))

    def encode(self, values: Any) -> Any:
        """The features, [rows, width]."""
        found = [values[:, column, None] == np.array(known, object) for column, known in self.known.items()]
        return np.concatenate(found, axis=1).astype(np.float32)

    def add_to(self, graph: "GraphBuilder", tensor: str) -> str:
        """Add the same computation; return the name of its result."""
        parts = [
            graph.add(
                "OneHotEncoder",
                [graph.add("Gather", [tensor, graph.constant(np.int64(column))], axis=1)],
                domain="ai.onnx.ml",
                cats_strings=list(known),
                zeros=1,
            )
            for column, known in self.known.items()
        ]
        return graph.add("Concat", parts, axis=1)


Encoder = Numbers | Categories


class GraphBuilder:
    """Collects nodes and constants, with names of their own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def add(self, kind: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = f"automl_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Add a constant, an array or scalar of numpy or an array of strings; return its name."""
        name = f"automl_constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def fit_encoders(inputs: Mapping[str, Any]) -> tuple[list[Encoder], list[str]]:
    """The encoders of these inputs of training rows, and which columns are left out because they hold text or ids.

    Ends the script if no column is left.
    """
    encoders: list[Encoder] = []
    left_out: list[str] = []
    for name, values in inputs.items():
        if values.dtype != object:
            encoders.append(_fit_numbers(name, values))
            continue
        columns = {column: _categories(values[:, column]) for column in range(values.shape[1])}
        left_out += [f"'{name}'[{column}]" for column, known in columns.items() if not known]
        if known := {column: known for column, known in columns.items() if known}:
            encoders.append(Categories(name, known))
    if not encoders:
        raise SystemExit(
            f"{', '.join(left_out)}: nearly every row has a text of its own, and AutoML takes tables of numbers and"
            " categories; train a model of text with a script, such as models/tickets/train.py"
        )
    return encoders, left_out


def encode(encoders: Sequence[Encoder], inputs: Mapping[str, Any]) -> Any:
    """The features of these rows, [rows, features], 32-bit floats."""
    return np.concatenate([encoder.encode(inputs[encoder.name]) for encoder in encoders], axis=1)


def _fit_numbers(name: str, values: Any) -> Numbers:
    numbers = _as_float(values)
    there = _is_there(numbers)
    medians = [np.median(column[known]) if known.any() else 0 for column, known in zip(numbers.T, there.T, strict=True)]
    return Numbers(name, np.array(medians, np.float32), np.flatnonzero(~there.all(axis=0)).astype(np.int64))


def _categories(values: Any) -> list[str]:
    """The most frequent strings, in the order of the alphabet; none if the column holds text or ids."""
    counts = Counter(values.tolist())
    if len(counts) > max(FEW, TEXT_SHARE * len(values)):
        return []
    return sorted(sorted(counts, key=lambda value: (-counts[value], value))[:MOST_CATEGORIES])


def _is_there(numbers: Any) -> Any:
    return np.abs(numbers) < LARGEST  # NaN is not


def _as_float(values: Any) -> Any:
    with np.errstate(over="ignore"):  # beyond the range of 32 bits is missing too, as in the graph
        return values.astype(np.float32)


def onnx_type(dtype: Any) -> int:
    """ONNX's number for a dtype; `object`: strings."""
    return int(TensorProto.STRING if dtype is object else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
