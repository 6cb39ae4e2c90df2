"""Rows of an export as Arrow columns: what the record says, each tensor as a flat typed list, and the feedback."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from gateway.offline.dataset.schema import Side, TensorColumn, Tensors
from gateway.offline.feedback_store import StoredFeedback
from gateway.protocol.tensors import DATATYPES, Array, Tensor
from gateway.records.prediction import Prediction

_SHAPE: Final = pa.list_(pa.int64())
RECORD_COLUMNS: Final = (
    ("prediction_id", pa.string()),
    ("time_ns", pa.int64()),
    ("version", pa.int64()),
    ("model_sha256", pa.string()),
    ("variant", pa.string()),
    ("route", pa.string()),
    ("propensity", pa.float64()),
    ("weight_ppm", pa.int64()),
    ("bucket", pa.int64()),
    ("salt", pa.string()),
    ("generation", pa.int64()),
    ("customer", pa.string()),
    ("modality", pa.string()),
    ("outcome", pa.string()),
    ("error", pa.string()),
    ("rescued_from", pa.int64()),
    ("rescue_reason", pa.string()),
    ("latency_us", pa.int64()),
    ("queue_us", pa.int64()),
    ("batch", pa.int64()),
    ("predicted", pa.int64()),
    ("request_sha256", pa.string()),
    ("request_media", pa.string()),
    ("trace_id", pa.string()),
    ("request_id", pa.string()),
)
FEEDBACK_COLUMNS: Final[Sequence[tuple[str, Any, Callable[[StoredFeedback], object]]]] = (
    ("truth_class", pa.int64(), lambda feedback: feedback.truth_class),
    ("reward", pa.float64(), lambda feedback: feedback.reward),
    ("correct", pa.bool_(), lambda feedback: feedback.correct),
    ("label_conflict", pa.bool_(), lambda feedback: feedback.conflict),
    ("feedback_metrics", pa.map_(pa.string(), pa.float64()), lambda feedback: sorted(feedback.metrics.items())),
    ("feedback_comment", pa.string(), lambda feedback: feedback.comment),
    ("feedback_count", pa.int64(), lambda feedback: feedback.count),
)
_ROW_BYTES: Final = 400  # about what the columns other than the tensors weigh


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of an export. `truth`: the Arrow type of the truths; JSON strings where they are of several kinds."""

    tensors: Sequence[TensorColumn]
    truth: Any
    truth_is_json: bool

    @property
    def schema(self) -> Any:
        """The Arrow schema."""
        fields = [*RECORD_COLUMNS, ("request_parameters", pa.string())]
        for column in self.tensors:
            fields += [(column.name, pa.list_(_element(column))), (f"{column.name}_shape", _SHAPE)]
        fields += [("truth", self.truth), *((name, kind) for name, kind, _ in FEEDBACK_COLUMNS)]
        return pa.schema(fields)


def layout_of(tensors: Sequence[TensorColumn], truth_kinds: set[type]) -> Layout:
    """The layout for these tensors, and for truths of these Python types."""
    for kinds, kind in (
        ({str}, pa.string()),
        ({int}, pa.int64()),
        ({bool}, pa.bool_()),
        ({int, float}, pa.float64()),
    ):
        if truth_kinds <= kinds:
            return Layout(tensors, kind, truth_is_json=False)
    return Layout(tensors, pa.string(), truth_is_json=True)


@dataclass(slots=True)
class Rows:
    """Rows that gather until they are worth writing. `bytes`: about what they weigh."""

    layout: Layout
    bytes: int = 0
    _rows: list[tuple[Prediction, Tensors, StoredFeedback]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, prediction: Prediction, tensors: Tensors, feedback: StoredFeedback) -> None:
        """One more row."""
        self._rows.append((prediction, tensors, feedback))
        found = (*tensors.inputs.values(), *tensors.outputs.values())
        self.bytes += _ROW_BYTES + sum(_tensor_bytes(tensor) for tensor in found)

    def batch(self) -> Any:
        """The rows as one Arrow record batch."""
        columns = [pa.array([getattr(row[0], name) for row in self._rows], kind) for name, kind in RECORD_COLUMNS]
        columns.append(pa.array([parameters_of(row[0]) for row in self._rows], pa.string()))
        for column in self.layout.tensors:
            columns += _tensor_columns(column, [_picked(column, row[1]) for row in self._rows])
        columns.append(pa.array([self._truth(row[2]) for row in self._rows], self.layout.truth))
        columns += [pa.array([value(row[2]) for row in self._rows], kind) for _, kind, value in FEEDBACK_COLUMNS]
        return pa.record_batch(columns, schema=self.layout.schema)

    def _truth(self, feedback: StoredFeedback) -> Any:
        if self.layout.truth_is_json and feedback.truth is not None:
            return orjson.dumps(feedback.truth, option=orjson.OPT_SORT_KEYS).decode()
        return feedback.truth


def _tensor_bytes(tensor: Tensor) -> int:
    if tensor.datatype == "BYTES":
        return sum(map(len, tensor.data.flat))
    return tensor.data.nbytes


def parameters_of(prediction: Prediction) -> str | None:
    """The request's parameters as JSON; raises TypeError where they are nested deeper than that can be written."""
    parameters = (prediction.request or {}).get("parameters")
    return orjson.dumps(parameters).decode() if parameters else None


def _picked(column: TensorColumn, tensors: Tensors) -> Tensor | None:
    found = (tensors.inputs if column.side is Side.INPUT else tensors.outputs).get(column.tensor)
    return found if found is not None and found.datatype == column.datatype else None


def _element(column: TensorColumn) -> Any:
    """The Arrow type of a tensor's elements. Half floats, which few readers know, become single ones."""
    if column.datatype == "BYTES":
        return pa.string() if column.text else pa.binary()
    return pa.float32() if column.datatype == "FP16" else pa.from_numpy_dtype(DATATYPES[column.datatype].dtype)


def _tensor_columns(column: TensorColumn, tensors: list[Tensor | None]) -> list[Any]:
    """The elements, row-major, and the shape."""
    arrays = [None if tensor is None else tensor.data for tensor in tensors]
    sizes = [0 if array is None else array.size for array in arrays]
    missing = pa.array([array is None for array in arrays])
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    there = [array.ravel() for array in arrays if array is not None]
    values = pa.ListArray.from_arrays(offsets, _elements(column, there), mask=missing)
    shapes = pa.array([None if array is None else list(array.shape) for array in arrays], _SHAPE)
    return [values, shapes]


def _elements(column: TensorColumn, arrays: list[Array]) -> Any:
    kind = _element(column)
    if column.datatype != "BYTES":
        joined = np.concatenate(arrays) if arrays else np.empty(0)
        return pa.array(joined.astype(kind.to_pandas_dtype(), copy=False), kind)
    elements = [element for array in arrays for element in array]
    if column.text:
        return pa.array([element if isinstance(element, str) else element.decode() for element in elements], kind)
    return pa.array([element.encode() if isinstance(element, str) else element for element in elements], kind)
