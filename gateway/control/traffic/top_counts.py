"""The most frequent routes and customers of each model, estimated from the records in bounded memory.

Of a piece of records that the writer takes all lines are looked at, or, if they are many, SAMPLED of them, each in the
place of as many as it was drawn from. The counts are kept by Space-Saving (Metwally, Agrawal, El Abbadi: Efficient
computation of frequent and top-k elements in data streams, 2005), half of the counters being freed at once: any key
with more than 1/CAPACITY of the requests is among them, and no count is too high by more than its `error`, at most
1/CAPACITY of the requests.
"""

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import orjson

CAPACITY: Final = 128  # keys counted of each model and kind
MAX_MODELS: Final = 1000
IN_FULL: Final = 128  # lines of a piece of records that are all looked at
SAMPLED: Final = 32  # lines of a longer one, which take the writer's thread about 0.1 ms
NO_CUSTOMER: Final = "(none)"
_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
# A quote inside a string is escaped, so `,"bucket":` cannot be in one.
_HEAD: Final = re.compile(
    rb'\{"kind":"prediction","prediction_id":"[^"]*","time_ns":[0-9]+,"model":(' + _STRING + rb'),"version":[0-9]+,'
    rb'"model_sha256":[^,]*,"variant":"([a-z]+)","route":(' + _STRING + rb'),.{0,4000}?,"bucket":[^,]*,'
    rb'"customer":(null|' + _STRING + rb"),",
    re.DOTALL,
)


@dataclass(slots=True)
class Count:
    """A key's estimated requests: at most `error` too many. `candidate`: of those, the ones that got the candidate."""

    requests: float = 0.0
    candidate: float = 0.0
    error: float = 0.0


class SpaceSaving:
    """The most frequent of many keys, in at most twice `capacity` counters."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._counts: dict[str, Count] = {}
        self._floor = 0.0  # no key without a counter has more requests

    def add(self, key: str, weight: float, candidate: bool) -> None:
        """Count `weight` requests."""
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= 2 * self._capacity:
                self._prune()
            count = self._counts[key] = Count(self._floor, 0.0, self._floor)
        count.requests += weight
        count.candidate += weight if candidate else 0.0

    def top(self, most: int) -> list[tuple[str, Count]]:
        """The most frequent keys, the first of them first. Safe beside a thread that adds."""
        return sorted(list(self._counts.items()), key=_requests)[:most]

    def _prune(self) -> None:
        """Keep the `capacity` most frequent keys. Half of the counters at once: sorting costs as much as for one."""
        ordered = sorted(self._counts.items(), key=_requests)
        self._floor = ordered[self._capacity][1].requests
        self._counts = dict(ordered[: self._capacity])


def _requests(item: tuple[str, Count]) -> float:
    return -item[1].requests


class ModelCounts:
    """One model's counts since `since_s`, in seconds since 1970."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.requests = 0.0
        self.routes = SpaceSaving()
        self.customers = SpaceSaving()


class TopCounts:
    """Written by the writer's thread, and read on control's loop. `clock`: seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time, seed: int | None = None) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._models: dict[str, ModelCounts] = {}

    def of(self, model: str) -> ModelCounts | None:
        """The model's counts; None if none of its requests was recorded."""
        return self._models.get(model)

    def forget(self, model: str) -> None:
        """Count the model anew from now on: another release has begun."""
        self._models.pop(model, None)

    def observe(self, data: bytes | memoryview, lines: int) -> None:
        """Count the predictions among these `lines` record lines."""
        if not lines:
            return
        weight = 1.0 if lines <= IN_FULL else lines / SAMPLED
        for start in _all_starts(data) if lines <= IN_FULL else self._some_starts(data):
            if (head := _HEAD.match(data, start)) is not None:
                with contextlib.suppress(ValueError):  # a damaged line must not keep the writer from its work
                    self._count(head, weight)

    def _count(self, head: "re.Match[bytes]", weight: float) -> None:
        model, route, customer = map(orjson.loads, head.group(1, 3, 4))
        counts = self._of(model)
        if counts is not None:
            candidate = head[2] == b"candidate"
            counts.requests += weight
            counts.routes.add(route, weight, candidate)
            counts.customers.add(customer or NO_CUSTOMER, weight, candidate)

    def _of(self, model: str) -> ModelCounts | None:
        counts = self._models.get(model)
        if counts is None and len(self._models) < MAX_MODELS:
            counts = self._models[model] = ModelCounts(self._clock())
        return counts

    def _some_starts(self, data: bytes | memoryview) -> Iterator[int]:
        """Lines that follow random bytes: how likely a line is drawn depends on the line before it, not on itself."""
        last = len(data)
        for _ in range(SAMPLED):
            start = _line_end(data, self._random.randrange(last))
            yield 0 if start >= last else start


def _all_starts(data: bytes | memoryview) -> Iterator[int]:
    start = 0
    while start < len(data):
        yield start
        start = _line_end(data, start)


def _line_end(data: bytes | memoryview, start: int) -> int:
    """Behind the next line break, or behind the last byte."""
    size = 4096
    while start < len(data):
        found = bytes(data[start : start + size]).find(b"\n")
        if found >= 0:
            return start + found + 1
        start, size = start + size, 2 * size
    return len(data)
