"""Converts the rows of an export to Arrow columns: the record's fields, each tensor as a flat typed list, feedback."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from gateway.offline.dataset.schema import Side, TensorColumn, Tensors
from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.merged_feedback import StoredFeedback
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
_METRICS_BY_ROW: Final = pa.map_(pa.string(), pa.list_(pa.float64()))
_OUTCOMES: Final = pa.map_(pa.string(), pa.float64())
_ROW_BYTES: Final = 400  # approximate size of the columns other than tensors, per row


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of an export. `truth`: the Arrow type of the truths; they are JSON strings if their types differ.

    `listed`: the fields of feedback that are lists with a value for each row of the request, for all predictions.
    `outcomes` and `predictions`: whether there are columns of that name, which records of earlier releases have not.
    """

    tensors: Sequence[TensorColumn]
    truth: Any
    truth_is_json: bool
    listed: frozenset[str] = frozenset()
    outcomes: bool = False
    predictions: bool = False

    @property
    def schema(self) -> Any:
        """The Arrow schema."""
        fields = [*RECORD_COLUMNS, ("request_parameters", pa.string())]
        for column in self.tensors:
            fields += [(column.name, pa.list_(_element(column))), (f"{column.name}_shape", _SHAPE)]
        fields += [("truth", self.truth), *((name, self.type_of(name, kind)) for name, kind, _ in FEEDBACK_COLUMNS)]
        fields += [("outcomes", _OUTCOMES)] if self.outcomes else []
        fields += [("predictions", pa.string())] if self.predictions else []
        return pa.schema(fields)

    def rows(self) -> "Rows":
        """An empty buffer of rows."""
        return Rows(self)

    def described(self) -> dict[str, Any]:
        """What the manifest says of the columns."""
        return {
            "tensors": {
                column.name: {"side": column.side, "tensor": column.tensor, "datatype": column.datatype}
                for column in self.tensors
            },
            "truth_is_json": self.truth_is_json,
        }

    def type_of(self, name: str, kind: Any) -> Any:
        """The Arrow type of a column of feedback, which is `kind` without lists."""
        if name == "feedback_metrics":
            return _METRICS_BY_ROW if "metrics" in self.listed else kind
        return pa.list_(kind) if name in self.listed else kind


def layout_of(tensors: Sequence[TensorColumn], store: FeedbackStore, *, predictions: bool) -> Layout:
    """Return the layout for these tensors and for the feedback in `store`; `predictions`: for what was predicted."""
    truth, is_json = pa.string(), True
    for kinds, kind in (
        ({str}, pa.string()),
        ({int}, pa.int64()),
        ({bool}, pa.bool_()),
        ({int, float}, pa.float64()),
    ):
        if store.truth_kinds <= kinds:
            truth, is_json = pa.list_(kind) if "truth" in store.listed else kind, False
            break
    return Layout(
        tensors=tensors,
        truth=truth,
        truth_is_json=is_json,
        listed=frozenset(store.listed),
        outcomes=store.has_outcomes,
        predictions=predictions,
    )


@dataclass(slots=True)
class Rows:
    """A buffer of rows to write together. `bytes`: their approximate size."""

    layout: Layout
    bytes: int = 0
    _rows: list[tuple[Prediction, Tensors, StoredFeedback]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, prediction: Prediction, tensors: Tensors, feedback: StoredFeedback) -> int:
        """Add one row; return how many that are."""
        self._rows.append((prediction, tensors, feedback))
        found = (*tensors.inputs.values(), *tensors.outputs.values())
        self.bytes += _ROW_BYTES + sum(_tensor_bytes(tensor) for tensor in found)
        return 1

    def batch(self) -> Any:
        """Return the rows as one Arrow record batch."""
        columns = [pa.array([getattr(row[0], name) for row in self._rows], kind) for name, kind in RECORD_COLUMNS]
        columns.append(pa.array([parameters_of(row[0]) for row in self._rows], pa.string()))
        for column in self.layout.tensors:
            columns += _tensor_columns(column, [_picked(column, row[1]) for row in self._rows])
        columns.append(pa.array([self._truth(row[2]) for row in self._rows], self.layout.truth))
        for name, kind, value in FEEDBACK_COLUMNS:
            values = [self._by_row(name, value(row[2])) for row in self._rows]
            columns.append(pa.array(values, self.layout.type_of(name, kind)))
        if self.layout.outcomes:
            columns.append(pa.array([sorted(row[2].outcomes.items()) for row in self._rows], _OUTCOMES))
        if self.layout.predictions:
            columns.append(pa.array([_predictions_of(row[0]) for row in self._rows], pa.string()))
        return pa.record_batch(columns, schema=self.layout.schema)

    def _truth(self, feedback: StoredFeedback) -> Any:
        if self.layout.truth_is_json and feedback.truth is not None:
            return orjson.dumps(feedback.truth, option=orjson.OPT_SORT_KEYS).decode()
        return self._by_row("truth", feedback.truth)

    def _by_row(self, name: str, value: Any) -> Any:
        """A value as its column has it: a list with one value for each row, if any prediction has that."""
        if name == "feedback_metrics" and "metrics" in self.layout.listed:
            return [(metric, one if type(one) is list else [one]) for metric, one in value]
        if name in self.layout.listed and value is not None and type(value) is not list:
            return [value]
        return value


def _tensor_bytes(tensor: Tensor) -> int:
    if tensor.datatype == "BYTES":
        return sum(map(len, tensor.data.flat))
    return tensor.data.nbytes


def _predictions_of(prediction: Prediction) -> str | None:
    return None if prediction.predictions is None else orjson.dumps(prediction.predictions).decode()


def parameters_of(prediction: Prediction) -> str | None:
    """Return the request's parameters as JSON; raises TypeError if they are nested too deeply for orjson."""
    parameters = (prediction.request or {}).get("parameters")
    return orjson.dumps(parameters).decode() if parameters else None


def _picked(column: TensorColumn, tensors: Tensors) -> Tensor | None:
    found = (tensors.inputs if column.side is Side.INPUT else tensors.outputs).get(column.tensor)
    return found if found is not None and found.datatype == column.datatype else None


def _element(column: TensorColumn) -> Any:
    """The Arrow type of a tensor's elements. FP16 becomes FP32, because few readers support half floats."""
    if column.datatype == "BYTES":
        return pa.string() if column.text else pa.binary()
    return pa.float32() if column.datatype == "FP16" else pa.from_numpy_dtype(DATATYPES[column.datatype].dtype)


def _tensor_columns(column: TensorColumn, tensors: list[Tensor | None]) -> list[Any]:
    """Return two columns: the elements in row-major order, and the shapes."""
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
