"""The switchboard in shared memory: stops and weights of releases, and control's heartbeat, read on every request.

A stop is an epoch, not a flag. A release is stopped while any of its stop words is at least its epoch; resuming raises
the epoch. So a breaker that trips late, on a request of an epoch that has ended, stops nothing.

    words   heartbeat_ns, generation, whether all workers have begun to listen
            for each worker: sends begun, sends ended
            for each release: epoch, control's stop, then each worker's stop, then the weights of its live routes, then
            how many of each worker's objects still read these words
            and behind all of them, the releases' names (`release_names`)

A reused slot starts in a later epoch, so stops of its previous release have no effect.

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
SERVING: Final = 2
HEADER: Final = 3
GATE_WORDS: Final = 2  # words for each worker
RELEASES: Final = 4096  # slots: releases in force at once, including those that a reload adds or that still drain
FIRST_EPOCH: Final = 1
LIVE_ROUTES: Final = 16  # most live routes of a release: those whose weights (ppm) control sets
NEVER_NS: Final = -(2**62)  # long before any heartbeat
_LAYOUT: Final = 0x5357_0004_0000
MAX_WORKERS: Final = 0xFFFF

OnWeights = Callable[[Sequence[int]], None]  # called with the weights of live routes, in ppm
OnTrip = Callable[[str, Callable[[], bool]], None]


class Switchboard:
    """The whole board, for `workers` workers. Slots are allocated by `slots.ReleaseSlots`."""

    def __init__(self, segment: SharedSegment, workers: int) -> None:
        self.segment = segment
        self.words = segment.words
        self.workers = workers
        self._stride = 2 + 2 * workers + LIVE_ROUTES
        self._used: set[int] = set()  # slots that have had a release (control only)
        self._end = 0  # behind the last of those
        self.names = ReleaseNames(segment, _size(workers), workers)
        words = np.frombuffer(segment.words, np.int64)[HEADER + GATE_WORDS * workers : _size(workers)]
        table = words.reshape(RELEASES, self._stride)
        self._epochs, self._stops, self._trips = table[:, 0], table[:, 1 : 2 + workers], table[:, 2 : 2 + workers]

    @classmethod
    def create(cls, path: Path, workers: int) -> "Switchboard":
        """Create the board, with all releases in their first epoch and not stopped. Called by the control process."""
        size = _size(workers)
        segment = SharedSegment.create(path, size + RELEASES * words_of(workers), _layout(workers), size)
        board = cls(segment, workers)
        for slot in range(RELEASES):
            segment.words[board.first_word(slot)] = FIRST_EPOCH
        return board

    @classmethod
    def attach(cls, path: Path, workers: int | None) -> "Switchboard":
        """Map an existing board; `workers` None: for as many as it was made for. Raises SettingsError if it is none."""
        if workers is None:
            workers = max(1, min(layout_of(path) - _LAYOUT, MAX_WORKERS))
        return cls(SharedSegment.attach(path, _layout(workers)), workers)

    @staticmethod
    def expire_heartbeat(path: Path) -> None:
        """Expire the heartbeat on the board of a killed control process, so that its workers serve no candidate."""
        with contextlib.suppress(OSError), path.open("r+b") as file:
            file.seek((HEADER_WORDS + HEARTBEAT) * WORD)
            file.write(NEVER_NS.to_bytes(WORD, sys.byteorder, signed=True))

    def first_word(self, slot: int) -> int:
        """Return the index of a release's first word."""
        return HEADER + GATE_WORDS * self.workers + slot * self._stride

    def held_word(self, slot: int, worker: int) -> int:
        """Return the index of the word in which the worker counts its objects that read the release's words."""
        return self.first_word(slot) + 2 + self.workers + LIVE_ROUTES + worker

    def open(self, slot: int) -> None:
        """Prepare the slot for another release: not stopped, all weights 0, in a new epoch."""
        if slot in self._used:
            self.set_weights(slot, [0] * LIVE_ROUTES)
            self.resume(slot)
        self._used.add(slot)
        self._end = max(self._end, slot + 1)

    def held(self, slot: int) -> bool:
        """Whether any worker may still read the slot's words."""
        return any(self.words[self.held_word(slot, 0) : self.held_word(slot, self.workers)])

    def serve(self) -> None:
        """Note that all workers that can listen do so."""
        self.words[SERVING] = 1

    @property
    def serving(self) -> bool:
        """Whether all workers listen: until then, connections would go to the few that do."""
        return self.words[SERVING] == 1

    def heartbeat(self) -> None:
        """Write control's heartbeat: the present monotonic time."""
        self.words[HEARTBEAT] = time.monotonic_ns()

    def publish(self, generation: int) -> None:
        """Set the number of the configuration generation in force."""
        self.words[GENERATION] = generation

    def epoch(self, slot: int) -> int:
        """Return the release's epoch: it rises each time the release is resumed."""
        return self.words[self.first_word(slot)]

    def stop(self, slot: int) -> None:
        """Stop the release: no request decided from now on goes to the candidate."""
        first = self.first_word(slot)
        self.words[first + 1] = self.words[first]

    def resume(self, slot: int) -> None:
        """Begin a new epoch: stops of earlier epochs no longer apply."""
        self.words[self.first_word(slot)] += 1

    def advance(self, slot: int, epoch: int) -> None:
        """Raise the release's epoch to at least `epoch`; if it is stopped it stays so, without a gap."""
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
        """Return `epoch` and `stopped` of many releases at once."""
        epochs = self._epochs[slots]
        return epochs, self._stops[slots].max(axis=1) >= epochs

    def tripped(self) -> list[int]:
        """Return the slots of all releases that a worker has stopped in their present epoch."""
        tripped = self._trips[: self._end].max(axis=1) >= self._epochs[: self._end]
        slots: list[int] = np.flatnonzero(tripped).tolist()
        return slots

    def all_stopped(self) -> list[int]:
        """Return the slots of all releases that control or a worker has stopped in their present epoch."""
        return [int(slot) for slot in np.flatnonzero(self._stops.max(axis=1) >= self._epochs)]

    def tripped_by(self, slot: int) -> list[int]:
        """Return the workers that have stopped the release in its present epoch."""
        first = self.first_word(slot)
        epoch = self.words[first]
        return [worker for worker in range(self.workers) if self.words[first + 2 + worker] >= epoch]

    def sends(self, worker: int) -> tuple[int, int]:
        """Return how many sends of candidate answers the worker has begun and ended."""
        first = HEADER + GATE_WORDS * worker
        return self.words[first], self.words[first + 1]

    def begin(self, worker: int, slots: Iterable[int]) -> None:
        """Reset the worker's counts of sends and held objects before a new process starts in its place."""
        first = HEADER + GATE_WORDS * worker
        self.words[first] = self.words[first + 1] = 0
        for slot in slots:
            self.words[self.held_word(slot, worker)] = 0


class Gate:
    """A context around each send of a candidate answer. A worker reads the stop inside it, and a stop waits for the
    sends that are inside.

    Otherwise a worker could be preempted between reading the switch and writing the answer. Sends must end in the order
    in which they began: else one begun after a stop could be mistaken for one that the stop waits for.
    """

    __slots__ = ("_defer", "_first", "_words")

    def __init__(self, board: Switchboard, worker: int) -> None:
        self._words = board.words
        self._first = HEADER + GATE_WORDS * worker
        self._defer: Callable[[Callable[[], None]], object] | None = None

    def defer_exit(self, later: Callable[[Callable[[], None]], object]) -> None:
        """End each send only when `later` calls back, in the order of the calls: TLS sends after the write returns."""
        self._defer = later

    def __enter__(self) -> None:
        self._words[self._first] += 1

    def __exit__(self, *raised: object) -> None:
        if self._defer is None:
            self._words[self._first + 1] += 1
        else:
            self._defer(self._exit)

    def _exit(self) -> None:
        self._words[self._first + 1] += 1


class Switch:
    """One worker's view of one release. Read on every request, by one comparison of bytes while nothing changes."""

    __slots__ = (
        "__weakref__", "_begin", "_cached", "_end", "_first", "_found", "_heartbeat_timeout_ns", "_on_trip",
        "_on_weights", "_own", "_raw", "_words", "_workers", "slot",
    )  # fmt: skip

    def __init__(
        self,
        board: Switchboard,
        slot: int,
        worker: int,
        heartbeat_timeout_ns: int,
        on_trip: OnTrip = lambda found, holds: None,
    ) -> None:
        """`on_trip` is called on a trip, with its reason and a function that tells if the epoch is still the same."""
        first = board.first_word(slot)
        self._words = board.words
        self._raw = board.segment.raw
        self._first = first
        self._begin = (HEADER_WORDS + first) * WORD
        self._workers = board.workers
        self._on_weights: OnWeights | None = None
        self._end = self._begin + (2 + board.workers) * WORD
        self.slot = slot
        self._own = first + 2 + worker
        self._found = board.names.found_word(slot, worker)
        self._on_trip = on_trip
        self._heartbeat_timeout_ns = heartbeat_timeout_ns
        self._cached = b"", False, FIRST_EPOCH  # one tuple, swapped at once: two threads may read the switch

    def stopped(self, now_ns: int) -> bool:
        """Whether the candidate is stopped: by command, by a breaker, or by a stale heartbeat (`now_ns`: monotonic)."""
        known, stopped, _ = self._cached
        now = self._raw[self._begin : self._end]
        if now != known:
            words = memoryview(now).cast("q")
            stops = 2 + self._workers
            stopped = max(words[1:stops]) >= words[0]
            if self._on_weights is not None:
                self._on_weights(words[stops:].tolist())
            self._cached = now, stopped, words[0]
        return stopped or now_ns - self._words[HEARTBEAT] > self._heartbeat_timeout_ns

    def on_weights_changed(self, on_weights: "OnWeights", live_routes: int) -> None:
        """Register `on_weights`, which `stopped` calls with the weights of the `live_routes` when it finds a change."""
        if live_routes:
            self._on_weights = on_weights
            self._end = self._begin + (2 + self._workers + live_routes) * WORD

    @property
    def epoch(self) -> int:
        """The release's epoch when `stopped` last found a change."""
        return self._cached[2]

    def trip(self, epoch: int, found: str = "") -> None:
        """Stop the release for the reason `found`, one of TRIPS; without effect if `epoch` has ended."""
        if epoch > self._words[self._own]:
            self._words[self._found] = TRIPS.index(found)
            self._words[self._own] = epoch
            self._on_trip(found, lambda: self._words[self._first] == epoch)


def _layout(workers: int) -> int:
    return _LAYOUT + workers


def _size(workers: int) -> int:
    """Size in words, without the names."""
    return HEADER + GATE_WORDS * workers + RELEASES * (2 + 2 * workers + LIVE_ROUTES)
