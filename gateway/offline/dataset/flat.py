"""A flat export: one row for each row of a request, one column a feature, as monitoring tools read it.

timestamp, prediction_id, row, version, variant, route, customer     of which request, and who answered it
FEATURE ...                                                          by the names in model.yaml, else INPUT_0 ...
prediction, proba_CLASS ..., target                                  a class by its name, or a number
prediction_LABEL ..., proba_LABEL ..., target_LABEL ...              of a model that predicts sets of labels
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from gateway.offline.dataset.flat_rows import TEXT, FlatPrediction, flat_prediction
from gateway.offline.dataset.schema import Tensors
from gateway.offline.examples import Example, Predicting
from gateway.offline.merged_feedback import StoredFeedback
from gateway.protocol.tensors import DATATYPES, Array
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind

HEAD: Final = (
    ("timestamp", pa.timestamp("us", "UTC")),
    ("prediction_id", pa.string()),
    ("row", pa.int64()),
    ("version", pa.int64()),
    ("variant", pa.string()),
    ("route", pa.string()),
    ("customer", pa.string()),
)
_ROW_BYTES: Final = 200  # approximate size of the columns other than features, per row
_VALUE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class FlatInput:
    """The columns of one input. `datatype`: of V2, the widest seen; `names`: one for each column."""

    tensor: str
    datatype: str
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatLayout:
    """The columns. `classes`: the names of classes or labels, empty for a number and where there are none; `names`:
    the inputs' columns as they are written, without those taken.
    """

    inputs: Sequence[FlatInput]
    predicting: Predicting
    kind: Kind
    classes: Sequence[str]
    has_scores: bool

    @property
    def schema(self) -> Any:
        """The Arrow schema."""
        fields = [*HEAD]
        heads = {name for name, _ in HEAD}
        own = [(f"{name}_" if name in heads else name, kind) for name, kind in self._outcomes()]  # of a label `id`
        taken = heads | {name for name, _ in own}
        for given in self.inputs:
            for name in given.names:
                while name in taken:
                    name += "_"
                taken.add(name)
                fields.append((name, _feature_type(given.datatype)))
        return pa.schema([*fields, *own])

    def rows(self) -> "FlatRows":
        """An empty buffer of rows."""
        return FlatRows(self)

    def described(self) -> dict[str, Any]:
        """What the manifest says of the columns."""
        names = iter(self.schema.names[len(HEAD) :])
        return {
            "flat": True,
            "prediction": self.kind,
            "inputs": {
                one.tensor: {"datatype": one.datatype, "columns": [next(names) for _ in one.names]}
                for one in self.inputs
            },
        }

    def _outcomes(self) -> list[tuple[str, Any]]:
        scores = [(f"proba_{name}", pa.float64()) for name in self.classes] if self.has_scores else []
        if self.kind is Kind.MULTILABEL:
            predictions, targets = (
                [(f"{what}_{name}", pa.bool_()) for name in self.classes] for what in ("prediction", "target")
            )
            return [*predictions, *scores, *targets]
        kind = pa.float64()
        if self.kind is Kind.CLASSIFICATION:
            kind = pa.string() if self.predicting.labels else pa.int64()
        return [("prediction", kind), *scores, ("target", kind)]


@dataclass(slots=True)
class FlatRows:
    """A buffer of rows to write together. `bytes`: their approximate size."""

    layout: FlatLayout
    bytes: int = 0
    _count: int = 0
    _rows: list[tuple[Prediction, FlatPrediction]] = field(default_factory=list)

    def __len__(self) -> int:
        return self._count

    def add(self, prediction: Prediction, tensors: Tensors, feedback: StoredFeedback) -> int:
        """Add the rows of a prediction; return how many these are."""
        flat = flat_prediction(prediction, tensors, feedback, self.layout.predicting)
        if flat is None:
            return 0
        self._rows.append((prediction, flat))
        rows = len(flat.examples)
        self._count += rows
        self.bytes += rows * _ROW_BYTES + sum(_bytes(array) for array in flat.inputs.values())
        return rows

    def batch(self) -> Any:
        """Return the rows as one Arrow record batch."""
        layout, each = (
            self.layout,
            [(prediction, example) for prediction, flat in self._rows for example in flat.examples],
        )
        columns = [
            pa.array([prediction.time_ns // 1000 for prediction, _ in each], pa.int64()).cast(HEAD[0][1]),
            pa.array([prediction.prediction_id for prediction, _ in each], pa.string()),
            pa.array([example.row for _, example in each], pa.int64()),
        ]
        for name, kind in HEAD[3:]:
            columns.append(pa.array([getattr(prediction, name) for prediction, _ in each], kind))
        for given in layout.inputs:
            columns += self._features(given)
        columns += self._outcomes([example for _, example in each])
        return pa.record_batch(columns, schema=layout.schema)

    def _features(self, given: FlatInput) -> list[Any]:
        """The columns of one input; null in requests without it."""
        arrays = [flat.inputs.get(given.tensor) for _, flat in self._rows]
        kind, width = _feature_type(given.datatype), len(given.names)
        missing = np.concatenate(
            [np.full(len(flat.examples), array is None) for array, (_, flat) in zip(arrays, self._rows, strict=True)]
        )
        number = object if given.datatype == TEXT else kind.to_pandas_dtype()
        values = np.concatenate(
            [
                np.zeros((len(flat.examples), width), number) if array is None else array.astype(number)
                for array, (_, flat) in zip(arrays, self._rows, strict=True)
            ]
        )
        return [pa.array(np.ascontiguousarray(values[:, index]), kind, mask=missing) for index in range(width)]

    def _outcomes(self, examples: Sequence[Example]) -> list[Any]:
        layout = self.layout
        scores = self._scores() if layout.has_scores else []
        if layout.kind is Kind.MULTILABEL:
            predictions = [None if one.predicted is None else frozenset(one.predicted) for one in examples]
            targets = [one.true_labels if one.truth is not None else None for one in examples]
            indices = range(len(layout.classes))
            said, true = (
                [pa.array([None if one is None else index in one for one in sets], pa.bool_()) for index in indices]
                for sets in (predictions, targets)
            )
            return [*said, *scores, *true]
        if layout.kind is Kind.CLASSIFICATION:
            kind = pa.string() if layout.predicting.labels else pa.int64()
            said, true = (
                [self._class(one.predicted) for one in examples],
                [self._class(one.truth_class) for one in examples],
            )
        else:
            kind = pa.float64()
            said, true = [_number(one.predicted) for one in examples], [_number(one.truth) for one in examples]
        return [pa.array(said, kind), *scores, pa.array(true, kind)]

    def _class(self, index: Any) -> Any:
        if type(index) is not int:
            return None
        return self.layout.predicting.name_of(index) if self.layout.predicting.labels else index

    def _scores(self) -> list[Any]:
        """The columns of the classes' scores; null where the output has none of it."""
        width = len(self.layout.classes)
        parts = []
        for _, flat in self._rows:
            part = np.full((len(flat.examples), width), np.nan)
            if flat.scores is not None:
                part[:, : flat.scores.shape[1]] = flat.scores
            parts.append(part)
        values = np.concatenate(parts)
        return [pa.array(values[:, index], pa.float64(), from_pandas=True) for index in range(width)]


def _feature_type(datatype: str) -> Any:
    if datatype == TEXT:
        return pa.string()
    return pa.float32() if datatype == "FP16" else pa.from_numpy_dtype(DATATYPES[datatype].dtype)


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _bytes(array: Array) -> int:
    return sum(map(len, array.flat)) if array.dtype == object else array.size * _VALUE_BYTES
