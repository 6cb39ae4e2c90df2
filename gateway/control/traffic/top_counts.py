"""The most frequent routes and customers of each model, estimated from the records in bounded memory.

Of a piece of records that the writer takes all lines are looked at, or, if they are many, SAMPLED of them, drawn with
equal chances, each in the place of as many as it was drawn from: 2,000 lines of 0.8 MB take 0.4 ms. The counts are kept
by Space-Saving (Metwally, Agrawal, El Abbadi: Efficient computation of frequent and top-k elements in data streams,
2005), half of the counters being freed at once: any key with more than 1/CAPACITY of the requests is among them, and no
count is too high by more than its `error`, at most 1/CAPACITY of the requests. Both hold for what was looked at;
drawing adds chance: of a key with a share of 20% in 100 such pieces, 0.7 percentage points (one standard deviation).
"""

import contextlib
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson

from gateway.records.line import LF
from gateway.system.printable import printable

CAPACITY: Final = 128  # keys counted of each model and kind
MAX_MODELS: Final = 1000
IN_FULL: Final = 128  # lines of a piece of records that are all looked at
SAMPLED: Final = 32  # lines of a longer one
BLOCK: Final = 1 << 20  # bytes in which line breaks are found at a time
MAX_NAME: Final = 200  # characters of a customer or route; all that have more count as TOO_LONG
NO_CUSTOMER: Final = "(none)"
TOO_LONG: Final = "(too long)"
# A character takes at most 6 bytes, of which `\\.` takes 2 at once. Possessive: it keeps nothing to go back to.
_STRING: Final = rb'"(?:[^"\\]|\\.){0,%d}+"' % (5 * MAX_NAME)
# A quote inside a string is escaped, so `,"bucket":` cannot be in one.
_HEAD: Final = re.compile(
    rb'\{"kind":"prediction","prediction_id":"[^"]*","time_ns":[0-9]+,"model":(' + _STRING + rb'),"version":[0-9]+,'
    rb'"model_sha256":[^,]*,"variant":"([a-z]+)","route":(?:(' + _STRING + rb'),)?.{0,4000}?,"bucket":[^,]*,'
    rb'"customer":(?:(null|' + _STRING + rb"),)?",
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
        starts, weight = _starts(data), 1.0
        if lines > IN_FULL:
            starts, weight = self._random.sample(starts, SAMPLED), lines / SAMPLED
        for start in starts:
            if (head := _HEAD.match(data, start)) is not None:
                with contextlib.suppress(ValueError):  # a damaged line must not keep the writer from its work
                    self._count(head, weight)

    def _count(self, head: "re.Match[bytes]", weight: float) -> None:
        model, route, customer = orjson.loads(head[1]), _name(head[3]), _name(head[4])
        counts = self._of(model)
        if counts is not None:
            candidate = head[2] == b"candidate"
            counts.requests += weight
            counts.routes.add(route, weight, candidate)
            counts.customers.add(customer, weight, candidate)

    def _of(self, model: str) -> ModelCounts | None:
        counts = self._models.get(model)
        if counts is None and len(self._models) < MAX_MODELS:
            counts = self._models[model] = ModelCounts(self._clock())
        return counts


def _name(encoded: bytes | None) -> str:
    """A route or customer as it is counted and shown. What cannot be printed is escaped: it may come from any client.
    Raises ValueError if it is no JSON.
    """
    name = TOO_LONG if encoded is None else orjson.loads(encoded) or NO_CUSTOMER
    if len(name) > MAX_NAME:
        return TOO_LONG
    return printable(name)


def _starts(data: bytes | memoryview) -> list[int]:
    """Where the lines begin."""
    octets = np.frombuffer(data, np.uint8)
    breaks = [start + np.flatnonzero(octets[start : start + BLOCK] == LF) for start in range(0, len(octets), BLOCK)]
    return [0, *(np.concatenate(breaks)[:-1] + 1).tolist()]
