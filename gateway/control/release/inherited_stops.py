"""Recovers stops of a previous run that may be missing from the decision log, before any traffic is served.

Two sources. The previous run's switchboard outlives control and workers: it shows breaker trips while control was dead
or hung, and control's own stops while the disk hung. Trip files in the state folder outlive the machine.
"""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gateway.control.release.decisions import DecisionLog
from gateway.records.trips import delete_trip, load_trips
from gateway.shm.stopped import PreviousBoard, StoppedRelease
from gateway.shm.tally import TRIPS
from gateway.version_key import VersionKey

BY_BREAKER: Final = "breaker"
BY_CONTROL: Final = "control"
WATCH_FOR_S: Final = 60.0  # by then, the old workers' requests to the candidate have ended
SCAN_INTERVAL_S: Final = 0.5  # scanning all slots takes 0.1 ms
log: Final = logging.getLogger("gateway.control.release")


class InheritedStops:
    """Stops that the previous run left in the `state` folder and on its switchboard, `left`.

    The constructor records them in the DecisionLog. `clock` returns monotonic seconds.
    """

    def __init__(
        self, state: Path, left: PreviousBoard, decision_log: DecisionLog, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._left: PreviousBoard | None = left
        self._decision_log = decision_log
        self._clock = clock
        self._until_s = clock() + WATCH_FOR_S
        self._next_s = clock() + SCAN_INTERVAL_S
        self._seen: set[VersionKey] = set()
        for one in (*self._scan(), *(StoppedRelease(*trip) for trip in _trips(state))):
            self._record(one)
            decision_log.run_after_sync(lambda one=one: delete_trip(state, one.model, one.version))  # type: ignore[misc]

    def poll(self) -> Iterator[StoppedRelease]:
        """Yield stops that the previous run's workers have made since the start, each once.

        Called at each tick; scans the board every SCAN_INTERVAL_S, for WATCH_FOR_S after the start.
        """
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + SCAN_INTERVAL_S
            if now_s > self._until_s:
                self._left = None  # and its memory
            yield from self._scan()

    def _scan(self) -> Iterator[StoppedRelease]:
        for one in self._left.stopped() if self._left is not None else ():
            if (one.model, one.version) not in self._seen:
                self._seen.add((one.model, one.version))
                yield one

    def _record(self, one: StoppedRelease) -> None:
        if self._decision_log.stopped(one.model, one.version) is None:
            self._decision_log.stop(one.model, one.version, *reason_of(one))
            log.warning("candidate %d of '%s' stays stopped: %s", one.version, one.model, reason_of(one)[1])


def reason_of(one: StoppedRelease) -> tuple[str, str, dict[str, object]]:
    """Return who stopped the release, the reason and the evidence, for its decision."""
    if one.worker is None:
        return BY_CONTROL, "it was stopped when control was killed, and by whom had not reached the disk", {}
    reason = f"{one.found or TRIPS[1]}, seen by worker {one.worker} while control was dead or did not answer"
    return BY_BREAKER, reason, {"worker": one.worker}


def _trips(state: Path) -> Iterator[tuple[str, int, int, str]]:
    for trip in load_trips(state):
        yield trip.model, trip.version, trip.worker, trip.found
