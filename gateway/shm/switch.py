"""A worker's view of the switchboard: the switch of a release, read on every request, and the gate around its sends."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gateway.shm.scoreboard import LATE_SENDS
from gateway.shm.segment import HEADER_WORDS, WORD
from gateway.shm.switchboard import FIRST_EPOCH, GATE_WORDS, HEADER, HEARTBEAT, Switchboard
from gateway.shm.tally import TRIPS

OnWeights = Callable[[Sequence[int]], None]  # called with the weights of live routes, in ppm
OnTrip = Callable[[str, Callable[[], bool]], None]


class Gate:
    """A context around each send of a candidate answer. A worker reads the stop inside it, and a stop waits for the
    sends that are inside.

    Otherwise a worker could be preempted between reading the switch and writing the answer. Sends must end in the order
    in which they began: else one begun after a stop could be mistaken for one that the stop waits for.
    """

    __slots__ = ("_defer", "_first", "_head", "_words", "now_ns")

    def __init__(self, board: Switchboard, worker: int, head: "memoryview[int]") -> None:
        """`head`: the worker's on the scoreboard."""
        self.now_ns: Final = board.clock.now_ns  # for `Switch.stopped`: a lease goes on while the machine is suspended
        self._words = board.words
        self._head = head
        self._first = HEADER + GATE_WORDS * worker
        self._defer: Callable[[Callable[[], None]], object] | None = None

    def defer_exit(self, later: Callable[[Callable[[], None]], object]) -> None:
        """End each send only when `later` calls back, in the order of the calls: TLS sends after the write returns."""
        self._defer = later

    def sent(self, lapsed: Callable[[int], bool]) -> None:
        """Look again after the write of a candidate's answer, inside the gate: no look before it can rule out that the
        process was suspended between the two, so what was sent late is at least counted. `lapsed`: the switch's.
        """
        if self._defer is None:
            self._count(lapsed)
        else:
            self._defer(partial(self._count, lapsed))

    def _count(self, lapsed: Callable[[int], bool]) -> None:
        self._head[LATE_SENDS] += lapsed(self.now_ns())

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
        """Whether the candidate is stopped: by command, by a breaker, or by a stale heartbeat. `now_ns`: of the board's
        clock, or monotonic time, which is as good where no answer is sent.
        """
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

    def lapsed(self, now_ns: int) -> bool:
        """Whether control's heartbeat is stale or this host's lease in the fleet has ended. `now_ns`: of the board's
        clock.
        """
        return now_ns - self._words[HEARTBEAT] > self._heartbeat_timeout_ns

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
