"""Measures how large a request may run on the event loop, with more and more rows, and longer and longer texts."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from gateway.backends.onnx import OnnxSession
from gateway.backends.signature import Feeds
from gateway.errors import RequestError
from gateway.protocol.tensors import Array

MAX_RUN_US: Final = 1000.0  # a run on the event loop may take
MAX_ROWS: Final = 65536
MAX_ELEMENTS: Final = 1_000_000  # in the inputs of one measured run
FIRST_LENGTH: Final = 64
MAX_LENGTH: Final = 65536
RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """The largest request for the event loop. `off_loop_reason`: why none may run there; "" if some may.

    `names`: the inputs that every request has. `rows`: the most of each. `elements`: by input, the most in a row, if a
    dimension other than the first is free. `length`: of texts, rows times the characters of the longest one; a batch
    that others may join counts as full, with `batch` rows. `texts`: the inputs that hold them. `small_body`: a body of
    at most so many bytes cannot hold a larger request, so it need not be checked; -1: none.
    """

    off_loop_reason: str = ""
    names: tuple[str, ...] = ()
    rows: int = 0
    elements: Mapping[str, int] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    length: int = 0
    batch: int = 1
    small_body: int = -1

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> "LoopLimits":
        """Read what `asdict` made JSON values of. Raises KeyError or TypeError if it has another form."""
        return cls(**{**found, "names": tuple(found["names"]), "texts": tuple(found["texts"])})

    def allows(self, feeds: Feeds) -> bool:
        """Whether a request is small enough."""
        for name in self.names:
            if len(feeds[name]) > self.rows:
                return False
        if self.elements or self.texts:
            return self._allows_content(feeds)
        return True

    def _allows_content(self, feeds: Feeds) -> bool:
        for name, most in self.elements.items():
            if feeds[name].size > most * len(feeds[name]):
                return False
        return all(max(len(feeds[name]), self.batch) * _longest(feeds[name]) <= self.length for name in self.texts)


def _longest(texts: Array) -> int:
    return texts.itemsize if texts.dtype.kind == "V" else max(map(len, texts.ravel().tolist()), default=0)


def measure_loop_limits(session: OnnxSession, row: Feeds, batch: int) -> LoopLimits:
    """Measure the limits of a session whose run time depends only on its inputs' sizes; `row`: a row that runs."""
    specs = [spec for spec in session.signature.inputs if spec.name in row and not spec.optional]
    names = tuple(spec.name for spec in specs)
    elements = {spec.name: row[spec.name].size // max(1, len(row[spec.name])) for spec in specs if -1 in spec.shape[1:]}
    texts = tuple(spec.name for spec in specs if spec.datatype == "BYTES")
    if all(spec.shape[0] == -1 for spec in specs):
        rows = max(batch, _largest(1, _row_limit(row), lambda size: _run_us(session, _with_rows(row, names, size))))
    else:
        rows = max((len(row[name]) for name in names), default=0)
    length = 0
    if texts:
        length = _largest(FIRST_LENGTH, MAX_LENGTH, lambda size: _run_us(session, _with_texts(row, texts, size)))
    small_body = -1 if elements or texts else min((rows * row[name][:1].size for name in names), default=-1)
    return LoopLimits("", names, rows, elements, texts, length, batch, small_body)  # an element takes at least a byte


def _largest(first: int, limit: int, run_us: Callable[[int], float]) -> int:
    """The largest of `first` and its doublings up to `limit` whose run is short enough; at least `first`."""
    size = first
    while 2 * size <= limit and run_us(2 * size) <= MAX_RUN_US:
        size *= 2
    return size


def _row_limit(row: Feeds) -> int:
    return min(MAX_ROWS, MAX_ELEMENTS // max(1, sum(array.size for array in row.values())))


def _with_rows(row: Feeds, names: tuple[str, ...], count: int) -> Feeds:
    return {name: np.repeat(array[:1], count, axis=0) if name in names else array for name, array in row.items()}


def _with_texts(row: Feeds, texts: tuple[str, ...], length: int) -> Feeds:
    """`row` with texts of `length` characters, in words of one letter: the most words that fit."""
    text = "a b c d " * (length // 8)
    return {name: np.full(array.shape, text, object) if name in texts else array for name, array in row.items()}


def _run_us(session: OnnxSession, feeds: Feeds) -> float:
    fastest = math.inf
    try:
        for _ in range(1 + RUNS):  # the first run of a size may prepare for it
            start = time.perf_counter()
            session.run(feeds)
            fastest = min(fastest, time.perf_counter() - start)
    except RequestError:  # this size does not run
        return math.inf
    return fastest * 1e6
