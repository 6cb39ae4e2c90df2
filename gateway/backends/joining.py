"""Joins the inputs of a batch's requests for one run, and splits the run's outputs among them.

By default the rows are concatenated. A backend that keeps memory for its inputs has the rows written there directly,
which saves a second copy; that memory is reserved for the duration of the run.
"""

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np

from gateway.backends.onnx import Result
from gateway.backends.signature import Feeds
from gateway.errors import InvalidOutput

Join = Callable[[Sequence[Feeds]], AbstractContextManager[Feeds]]


def concatenated(parts: Sequence[Feeds]) -> AbstractContextManager[Feeds]:
    """New arrays with the rows of all parts, in order; the parts have the same input names."""
    return nullcontext({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


class WithRows(Protocol):
    """A request with a number of rows."""

    @property
    def rows(self) -> int: ...


def split_rows(outputs: Sequence[Result], requests: Sequence[WithRows]) -> list[list[Result]]:
    """The outputs of each request. Raises InvalidOutput unless each output has all the requests' rows."""
    ends = list(itertools.accumulate([request.rows for request in requests]))
    whole = [output for output in outputs if output is not None and len(output) == ends[-1]]
    if len(whole) != len(outputs):
        raise InvalidOutput("an output of the batch does not have the batch's rows")
    return [[output[end - request.rows : end] for output in whole] for end, request in zip(ends, requests, strict=True)]
