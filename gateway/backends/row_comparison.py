"""Compares the rows of two runs of a model: in its outputs, or in inner tensors whose rows can be identified."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from onnxruntime import RunOptions

from gateway.backends.onnx import Result
from gateway.backends.signature import Feeds
from gateway.protocol.tensors import Array

FP16_TOLERANCE: Final = 2e-2  # rounding of FP16, whose own step is 1e-3
COARSE_SHARE: Final = 0.5  # distinct values, of all
MAX_INSPECTED: Final = 10_000  # elements, to see how many are distinct
ALL_ROWS: Final = -1

Runs = Callable[[Feeds, RunOptions | None], Sequence[Result]]


@dataclass(frozen=True, slots=True)
class RowComparison:
    """How rows of two runs are compared. `run` returns the arrays. `axes`: for each array, the axis of the rows;
    ALL_ROWS: every row depends on the whole array; None: not compared.
    """

    run: Runs
    axes: Sequence[int | None]

    def rows_agree(self, one: Sequence[Result], other: Sequence[Result], kept: Array, tolerance: float) -> bool:
        """Whether the `kept` rows are equal, within `tolerance`, in two runs of the same size."""
        triples = zip(self.axes, one, other, strict=True)
        return all(_agree(axis, a, b, kept, tolerance) for axis, a, b in triples if axis is not None)

    def rounding(self, row: int, rows: int, alone: Sequence[Result], together: Sequence[Result], most: float) -> float:
        """The difference between a row that ran alone and the same row in a batch, relative to the largest value;
        infinite if it exceeds `most`.
        """
        triples = zip(self.axes, alone, together, strict=True)
        return max((_rounding(a, b, row, rows, most) for axis, a, b in triples if axis == 0), default=0.0)


def find_row_axis(one: Result, rows: int, other: Result, more: int) -> int | None:
    """The axis of an array's rows, found from two runs with `rows` and `more` rows; ALL_ROWS if the shape is the same
    in both; None if there is none. On the first axis a row may have several entries.
    """
    if one is None or other is None or one.ndim != other.ndim:
        return None
    if one.shape == other.shape:
        return ALL_ROWS
    if one.ndim and one.shape[0] * more == other.shape[0] * rows and one.shape[1:] == other.shape[1:]:
        return 0
    differing = [axis for axis in range(one.ndim) if one.shape[axis] != other.shape[axis]]
    axis = differing[0]
    return axis if len(differing) == 1 and (one.shape[axis], other.shape[axis]) == (rows, more) else None


def is_coarse(result: Result) -> bool:
    """Whether the values are so few that rows may agree by chance: labels, counts, rounded or compared values."""
    if result is None or result.dtype.kind != "f":
        return True
    values = result.ravel()[:MAX_INSPECTED]
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size or (values == np.rint(values)).all():
        return True
    return bool(len(np.unique(values)) < COARSE_SHARE * values.size)


def is_close(one: Array, other: Array, tolerance: float) -> bool:
    """Whether all differences are within `tolerance` of the value or of the largest value; NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind != "f" or tolerance == 0:
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    most = max(tolerance, FP16_TOLERANCE) if one.dtype == np.float16 else tolerance
    return bool(np.allclose(one, other, rtol=most, atol=most * _scale(other), equal_nan=True))


def _agree(axis: int | None, one: Result, other: Result, kept: Array, tolerance: float) -> bool:
    if one is None or other is None or axis is None or one.shape != other.shape:
        return False
    if axis == ALL_ROWS:
        return is_close(one, other, tolerance)
    return is_close(_by_row(one, axis, len(kept))[kept], _by_row(other, axis, len(kept))[kept], tolerance)


def _by_row(array: Array, axis: int, rows: int) -> Array:
    if axis:
        return np.moveaxis(array, axis, 0)
    return array.reshape(rows, array.shape[0] // rows, *array.shape[1:])


def _rounding(alone: Result, together: Result, row: int, rows: int, most: float) -> float:
    if alone is None or together is None or not 0 < together.ndim == alone.ndim or len(together) != len(alone) * rows:
        return np.inf
    there = _by_row(together, 0, rows)[row]
    if not is_close(alone, there, most):
        return np.inf
    if alone.dtype.kind != "f":
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(alone - there), initial=0.0)) / (_scale(there) or 1.0)


def _scale(array: Array) -> float:
    return float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)))
