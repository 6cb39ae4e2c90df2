"""The switches that a request meets: stops of releases, and the control process's sign of life.

A stop is an epoch, not a flag. A release is stopped while any of its stop words is at least its epoch; resuming raises
the epoch. So a worker that trips its breaker late, on a request of an epoch that is over, stops nothing.

    words   heartbeat_ns, generation, whether all workers have begun to listen
            for each worker: sends begun, sends ended
            for each release: epoch, control's stop, then each worker's stop, then the weights of its live routes, then
            how many of each worker's objects still look at these words
            and behind all of them, the releases' names (`release_names`)

A slot that has been another release's before begins in a later epoch: what is left of that one stops nothing.

Source: Lamport's one-writer registers; every word is written by one process only.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.shm.release_names import ReleaseNames, words_of
from gateway.shm.segment import HEADER_WORDS, WORD, SharedSegment, layout_of
from gateway.shm.tally import TRIPS

HEARTBEAT: Final = 0
GENERATION: Final = 1
OPEN: Final = 2
FIXED: Final = 3
GATE: Final = 2  # words for each worker
RELEASES: Final = 4096  # slots: releases in force at once, those included that a reload brings or that still drain
FIRST_EPOCH: Final = 1
LIVE_ROUTES: Final = 16  # of a release: those whose weights control turns, in ppm
NEVER_NS: Final = -(2**62)  # long before any heartbeat
_LAYOUT: Final = 0x5357_0004_0000
MOST_WORKERS: Final = 0xFFFF

Turn = Callable[[Sequence[int]], None]  # told the weights of live routes, in ppm
Tell = Callable[[str, Callable[[], bool]], None]


class Switchboard:
    """The whole board, for `workers` workers."""

    def __init__(self, segment: SharedSegment, workers: int) -> None:
        self.segment = segment
        self.words = segment.words
        self.workers = workers
        self._stride = 2 + 2 * workers + LIVE_ROUTES
        self._used: set[int] = set()  # slots that have had a release; control's
        self._end = 0  # of those
        self.names = ReleaseNames(segment, _size(workers), workers)
        words = np.frombuffer(segment.words, np.int64)[FIXED + GATE * workers : _size(workers)]
        table = words.reshape(RELEASES, self._stride)
        self._epochs, self._stops, self._trips = table[:, 0], table[:, 1 : 2 + workers], table[:, 2 : 2 + workers]

    @classmethod
    def create(cls, path: Path, workers: int) -> "Switchboard":
        """Control's: every release at its first epoch, none stopped."""
        size = _size(workers)
        segment = SharedSegment.create(path, size + RELEASES * words_of(workers), _layout(workers), size)
        board = cls(segment, workers)
        for slot in range(RELEASES):
            segment.words[board.first_word(slot)] = FIRST_EPOCH
        return board

    @classmethod
    def attach(cls, path: Path, workers: int | None) -> "Switchboard":
        """A worker's; or, with None, that of however many workers have it. Raises SettingsError where it is none."""
        if workers is None:
            workers = max(1, min(layout_of(path) - _LAYOUT, MOST_WORKERS))
        return cls(SharedSegment.attach(path, _layout(workers)), workers)

    @staticmethod
    def expire_heartbeat(path: Path) -> None:
        """End the sign of life on a board that a killed control has left: its workers then serve no candidate."""
        with contextlib.suppress(OSError), path.open("r+b") as file:
            file.seek((HEADER_WORDS + HEARTBEAT) * WORD)
            file.write(NEVER_NS.to_bytes(WORD, sys.byteorder, signed=True))

    def first_word(self, slot: int) -> int:
        """Where the words of a release begin."""
        return FIXED + GATE * self.workers + slot * self._stride

    def held_word(self, slot: int, worker: int) -> int:
        """Where the worker counts its objects that look at the release."""
        return self.first_word(slot) + 2 + self.workers + LIVE_ROUTES + worker

    def open(self, slot: int) -> None:
        """Another release gets the slot: not stopped, no weights, in an epoch of its own."""
        if slot in self._used:
            self.set_weights(slot, [0] * LIVE_ROUTES)
            self.resume(slot)
        self._used.add(slot)
        self._end = max(self._end, slot + 1)

    def held(self, slot: int) -> bool:
        """Whether any worker may still look at the release that has had the slot."""
        return any(self.words[self.held_word(slot, 0) : self.held_word(slot, self.workers)])

    def serve(self) -> None:
        """All workers listen that can."""
        self.words[OPEN] = 1

    @property
    def serving(self) -> bool:
        """Whether all workers have begun to listen: until then a connection would go to the few that do."""
        return self.words[OPEN] == 1

    def heartbeat(self) -> None:
        """Control is alive."""
        self.words[HEARTBEAT] = time.monotonic_ns()

    def publish(self, generation: int) -> None:
        """The configuration in force."""
        self.words[GENERATION] = generation

    def epoch(self, slot: int) -> int:
        """How often the release has begun anew."""
        return self.words[self.first_word(slot)]

    def stop(self, slot: int) -> None:
        """No request that is decided from now on goes to the candidate."""
        first = self.first_word(slot)
        self.words[first + 1] = self.words[first]

    def resume(self, slot: int) -> None:
        """A new epoch: what stopped the last one does not stop this one."""
        self.words[self.first_word(slot)] += 1

    def advance(self, slot: int, epoch: int) -> None:
        """Be in `epoch` at least, stopped or not as before, and not let go in between."""
        first = self.first_word(slot)
        if self.words[first] < epoch:
            if self.stopped(slot):
                self.words[first + 1] = epoch
            self.words[first] = epoch

    def stopped(self, slot: int) -> bool:
        """Whether control or any worker has stopped the release in its present epoch."""
        first = self.first_word(slot)
        return max(self.words[first + 1 : first + 2 + self.workers]) >= self.words[first]

    def set_weights(self, slot: int, weights_ppm: Sequence[int]) -> None:
        """Set the weights of the release's live routes, in their order."""
        first = self.first_word(slot) + 2 + self.workers
        for index, weight_ppm in enumerate(weights_ppm):
            self.words[first + index] = weight_ppm

    def weights_ppm(self, slot: int, count: int) -> list[int]:
        """The weights of the release's first `count` live routes."""
        first = self.first_word(slot) + 2 + self.workers
        return self.words[first : first + count].tolist()

    def states(self, slots: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """`epoch` and `stopped` of many releases at once."""
        epochs = self._epochs[slots]
        return epochs, self._stops[slots].max(axis=1) >= epochs

    def tripped(self) -> list[int]:
        """The slots of all releases that a worker has stopped in their present epoch."""
        tripped = self._trips[: self._end].max(axis=1) >= self._epochs[: self._end]
        slots: list[int] = np.flatnonzero(tripped).tolist()
        return slots

    def all_stopped(self) -> list[int]:
        """The slots of all releases that anyone has stopped in their present epoch."""
        return [int(slot) for slot in np.flatnonzero(self._stops.max(axis=1) >= self._epochs)]

    def tripped_by(self, slot: int) -> list[int]:
        """The workers that have stopped the release in its present epoch."""
        first = self.first_word(slot)
        epoch = self.words[first]
        return [worker for worker in range(self.workers) if self.words[first + 2 + worker] >= epoch]

    def sends(self, worker: int) -> tuple[int, int]:
        """How many sends of candidate answers the worker has begun and ended."""
        first = FIXED + GATE * worker
        return self.words[first], self.words[first + 1]

    def begin(self, worker: int, slots: Iterable[int]) -> None:
        """A new process takes the worker's place; the sends of the old one, and what it held, died with it."""
        first = FIXED + GATE * worker
        self.words[first] = self.words[first + 1] = 0
        for slot in slots:
            self.words[self.held_word(slot, worker)] = 0


class Gate:
    """Around each send of a candidate answer: the stop is read inside it, and who stops waits for those inside.

    Without it a worker could be put to sleep between reading the switch and writing the answer. Sends end in the order
    in which they began: else one that began after a stop would be taken for one that the stop waits for.
    """

    __slots__ = ("_first", "_later", "_words")

    def __init__(self, board: Switchboard, worker: int) -> None:
        self._words = board.words
        self._first = FIXED + GATE * worker
        self._later: Callable[[Callable[[], None]], object] | None = None

    def defer_exit(self, later: Callable[[Callable[[], None]], object]) -> None:
        """From now on a send is over when `later` calls back, in the order of the calls: TLS sends after the write."""
        self._later = later

    def __enter__(self) -> None:
        self._words[self._first] += 1

    def __exit__(self, *raised: object) -> None:
        if self._later is None:
            self._words[self._first + 1] += 1
        else:
            self._later(self._ended)

    def _ended(self) -> None:
        self._words[self._first + 1] += 1


class Switch:
    """One release as one worker sees it. Read on every request: one comparison of bytes while nothing has changed."""

    __slots__ = (
        "__weakref__", "_begin", "_end", "_first", "_found", "_heartbeat_timeout_ns", "_known", "_own", "_raw", "_tell",
        "_turn", "_words", "_workers", "slot",
    )  # fmt: skip

    def __init__(
        self,
        board: Switchboard,
        slot: int,
        worker: int,
        heartbeat_timeout_ns: int,
        tell: Tell = lambda found, holds: None,
    ) -> None:
        """`tell` is told of trips: what was found, and what asks whether the epoch goes on."""
        first = board.first_word(slot)
        self._words = board.words
        self._raw = board.segment.raw
        self._first = first
        self._begin = (HEADER_WORDS + first) * WORD
        self._workers = board.workers
        self._turn: Turn | None = None
        self._end = self._begin + (2 + board.workers) * WORD
        self.slot = slot
        self._own = first + 2 + worker
        self._found = board.names.found_word(slot, worker)
        self._tell = tell
        self._heartbeat_timeout_ns = heartbeat_timeout_ns
        self._known = b"", False, FIRST_EPOCH  # one reference: two threads may read the switch at once

    def stopped(self, now_ns: int) -> bool:
        """Whether the candidate is stopped: by an order, by a breaker, or because control is dead. Monotonic clock."""
        known, stopped, _ = self._known
        now = self._raw[self._begin : self._end]
        if now != known:
            words = memoryview(now).cast("q")
            stops = 2 + self._workers
            stopped = max(words[1:stops]) >= words[0]
            if self._turn is not None:
                self._turn(words[stops:].tolist())
            self._known = now, stopped, words[0]
        return stopped or now_ns - self._words[HEARTBEAT] > self._heartbeat_timeout_ns

    def on_weights_changed(self, turn: "Turn", live_routes: int) -> None:
        """Have `set_weights` told the weights of the release's live routes when they change, by `stopped`."""
        if live_routes:
            self._turn = turn
            self._end = self._begin + (2 + self._workers + live_routes) * WORD

    @property
    def epoch(self) -> int:
        """The release's epoch, as `stopped` last saw it."""
        return self._known[2]

    def trip(self, epoch: int, found: str = "") -> None:
        """Stop the release, if it is still in `epoch`, for what was `found`, one of TRIPS."""
        if epoch > self._words[self._own]:
            self._words[self._found] = TRIPS.index(found)
            self._words[self._own] = epoch
            self._tell(found, lambda: self._words[self._first] == epoch)


def _layout(workers: int) -> int:
    return _LAYOUT + workers


def _size(workers: int) -> int:
    """In words, without names."""
    return FIXED + GATE * workers + RELEASES * (2 + 2 * workers + LIVE_ROUTES)
