"""Requests that run together: their rows are stacked into one run's inputs, and its outputs cut up again."""

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from gateway.backends.onnx import Result
from gateway.backends.signature import Feeds
from gateway.errors import InvalidOutput


class Stackable(Protocol):
    """A request's inputs, and how many rows each of them has."""

    @property
    def feeds(self) -> Feeds: ...

    @property
    def rows(self) -> int: ...


def stacked(requests: Sequence[Stackable]) -> Feeds:
    """The inputs of all requests, one's rows below the other's. All must have the same inputs."""
    return {name: np.concatenate([request.feeds[name] for request in requests]) for name in requests[0].feeds}


def cut(outputs: Sequence[Result], requests: Sequence[Stackable]) -> list[list[Result]]:
    """The outputs of each request. Raises InvalidOutput unless each output has all the requests' rows."""
    ends = list(itertools.accumulate([request.rows for request in requests]))
    whole = [output for output in outputs if output is not None and len(output) == ends[-1]]
    if len(whole) != len(outputs):
        raise InvalidOutput("an output of the batch does not have the batch's rows")
    return [[output[end - request.rows : end] for output in whole] for end, request in zip(ends, requests, strict=True)]
