"""The switchboard in shared memory: stops and weights of releases, and control's heartbeat, read on every request.

A stop is an epoch, not a flag. A release is stopped while any of its stop words is at least its epoch; resuming raises
the epoch. So a breaker that trips late, on a request of an epoch that has ended, stops nothing.

    words   control's heartbeat_ns, generation, whether all workers have begun to listen
            for each worker: sends begun, sends ended
            for each release: epoch, control's stop, then each worker's stop, then the weights of its live routes, then
            how many of each worker's objects still read these words
            and behind all of them, the releases' names (`release_names`)

A reused slot starts in a later epoch, so stops of its previous release have no effect.

Source: Lamport's one-writer registers; every word is written by one process only.
"""

import contextlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.shm.board_clock import BoardClock, suspended_ns
from gateway.shm.release_names import ReleaseNames, words_of
from gateway.shm.segment import HEADER_WORDS, WORD, SharedSegment, layout_of

HEARTBEAT: Final = 0
GENERATION: Final = 1
SERVING: Final = 2
HEADER: Final = 3
GATE_WORDS: Final = 2  # words for each worker
RELEASES: Final = 4096  # slots: releases in force at once, including those that a reload adds or that still drain
FIRST_EPOCH: Final = 1
LIVE_ROUTES: Final = 16  # most live routes of a release: those whose weights (ppm) control sets
NEVER_NS: Final = -(2**62)  # long before any heartbeat
FOREVER_NS: Final = 2**62
_LAYOUT: Final = 0x5357_0004_0000
MAX_WORKERS: Final = 0xFFFF


class Switchboard:
    """The whole board, for `workers` workers. Slots are allocated by `slots.ReleaseSlots`."""

    def __init__(self, segment: SharedSegment, workers: int) -> None:
        self.segment = segment
        self.words = segment.words
        self.clock = BoardClock(segment.spare_word)
        self.heartbeat_ns = NEVER_NS
        self._latest_ns = FOREVER_NS  # that a heartbeat may be: without a fleet any
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
        segment.spare_word = suspended_ns()
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
        """Write control's heartbeat: the present time, or an earlier one if the fleet's lease ends sooner than it would
        become stale.
        """
        self.heartbeat_ns = self.clock.now_ns()
        self.words[HEARTBEAT] = min(self.heartbeat_ns, self._latest_ns)

    def grant_lease(self, until_ns: int, heartbeat_timeout_ns: int) -> None:
        """Let no worker send a candidate's answer from `until_ns` on, on the board's clock, until a later lease is
        granted. What is shortened is so at once, what is extended only with the next heartbeat.
        """
        self._latest_ns = until_ns - heartbeat_timeout_ns - 1
        self.words[HEARTBEAT] = min(self.words[HEARTBEAT], self._latest_ns)

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


def _layout(workers: int) -> int:
    return _LAYOUT + workers


def _size(workers: int) -> int:
    """Size in words, without the names."""
    return HEADER + GATE_WORDS * workers + RELEASES * (2 + 2 * workers + LIVE_ROUTES)
