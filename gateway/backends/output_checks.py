"""Checks a candidate's answer before it may be sent: it is not stopped; outputs are finite and of the right shape."""

from collections.abc import Callable, Sequence

import numpy as np
from onnxruntime import RunOptions

from gateway.backends.onnx import Result
from gateway.backends.signature import Feeds, covers
from gateway.errors import Conflict, InvalidOutput
from gateway.protocol.tensors import Array, TensorSpec
from gateway.shm.underway import Underway

Stopped = Callable[[], bool]
Run = Callable[[Feeds, RunOptions | None], list[Result]]


def checked(run: Run, outputs: Sequence[TensorSpec], number: int, stopped: Stopped, *, row_for_row: bool) -> Run:
    """Wrap the run of a candidate with these checks; any thread. `row_for_row`: outputs have as many rows as inputs.

    The run raises Conflict if the candidate is stopped, InvalidOutput if an output is not finite or not of the declared
    shape.
    """

    def run_checked(feeds: Feeds, options: RunOptions | None) -> list[Result]:
        if stopped():
            raise Conflict(f"version {number} is stopped; resume it, or ask for another version")
        results = run(feeds, options)
        rows = len(next(iter(feeds.values()))) if row_for_row else None
        check(outputs, results, rows)
        return results

    return run_checked


def mark_underway(run: Run, underway: Underway) -> Run:
    """Wrap the run so that shared memory shows it while it lasts: if the process dies, the version is blamed."""

    def run_noted(feeds: Feeds, options: RunOptions | None) -> list[Result]:
        with underway:
            return run(feeds, options)

    return run_noted


def check(outputs: Sequence[TensorSpec], results: Sequence[Result], rows: int | None) -> None:
    """Raise InvalidOutput if stable must answer instead. `rows`: the inputs', if each output has as many."""
    for spec, result in zip(outputs, results, strict=True):
        if result is not None:
            _check(spec, result, rows)


def _check(spec: TensorSpec, result: Array, rows: int | None) -> None:
    if not covers(spec.shape, result.shape):
        raise InvalidOutput(f"output '{spec.name}' has the shape {list(result.shape)}; declared is {list(spec.shape)}")
    if rows is not None and len(result) != rows:
        raise InvalidOutput(f"output '{spec.name}' has {len(result)} rows for {rows} of the inputs")
    if result.dtype.kind == "f" and not np.isfinite(result).all():
        raise InvalidOutput(f"output '{spec.name}' holds NaN or infinity")
