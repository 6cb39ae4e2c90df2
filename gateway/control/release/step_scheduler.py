"""Selects the releases whose controllers step in a tick: at once if there is news, soon if requests came, else rarely.

A step costs 0.15 ms, and control must answer commands and write its heartbeat many times a second. With hundreds of
releases, those with only changed counters, and those without traffic, are therefore stepped round-robin.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.control.release.managed_release import ManagedRelease
from gateway.shm.scoreboard import Scoreboard
from gateway.shm.switchboard import Switchboard

ACTIVE_INTERVAL_S: Final = 0.09  # between two steps of a release with only changed counters: every second tick
IDLE_INTERVAL_S: Final = 0.25  # between two steps of one without traffic: as often as windows keep samples
MAX_ACTIVE: Final = 50  # most steps of such releases in one tick
MAX_IDLE: Final = 10


class StepScheduler:
    """Schedules the steps of the releases `releases`.

    `versions`: the scoreboard slots of each release's stable and candidate, in the same order.
    """

    def __init__(
        self,
        board: Switchboard,
        scoreboard: Scoreboard,
        releases: Sequence[ManagedRelease] = (),
        versions: Sequence[tuple[int, int]] = (),
    ) -> None:
        count = len(releases)
        self._board = board
        self._scoreboard = scoreboard
        self.releases = releases
        self._slots = np.array([one.slot for one in releases], np.int64)
        self._versions = np.array(versions, np.int64).reshape(count, 2)
        self._epochs = np.zeros(count, np.int64)  # 0 is no epoch, so every release is due at first
        self._stopped = np.zeros(count, np.bool_)
        self._counts = np.zeros((count, 2), np.int64)
        self._stepped_s = np.full(count, -np.inf)

    def request_counts(self) -> npt.NDArray[np.int64]:
        """Return how many requests each release's stable and candidate have had by now: half of the work of `due`."""
        return self._scoreboard.request_counts(self._versions.ravel()).reshape(-1, 2)

    def due(self, now_s: float, counts: npt.NDArray[np.int64]) -> list[ManagedRelease]:
        """Return the releases to step in this tick, and remember that they have been stepped. Called once a tick, with
        what `request_counts` has just returned.
        """
        if not self.releases:
            return []
        epochs, stopped = self._board.states(self._slots)
        news = np.fromiter((one.has_evidence for one in self.releases), np.bool_, len(self.releases))
        at_once = news | (epochs != self._epochs) | (stopped != self._stopped)
        since_s = now_s - self._stepped_s
        counted = (counts != self._counts).any(axis=1) & (since_s >= ACTIVE_INTERVAL_S) & ~at_once
        idle = (since_s >= IDLE_INTERVAL_S) & ~at_once & ~counted
        chosen = np.concatenate(
            [np.flatnonzero(at_once), self._first(counted, MAX_ACTIVE), self._first(idle, MAX_IDLE)]
        )
        self._epochs[chosen], self._stopped[chosen] = epochs[chosen], stopped[chosen]
        self._counts[chosen], self._stepped_s[chosen] = counts[chosen], now_s
        return [self.releases[index] for index in chosen.tolist()]

    def _first(self, which: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.int64]:
        """Return the indices of at most `most` of these releases: those whose last step is longest ago."""
        found = np.flatnonzero(which)
        return found[np.argsort(self._stepped_s[found], kind="stable")[:most]]
