"""Counts the deaths of candidates' processes, and stops a release after `guards.breaker.crashes` within ten minutes."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from gateway.control.pool.version_process import Role, VersionProcess
from gateway.settings.guards import GuardsSettings
from gateway.settings.routing import ReleaseSettings
from gateway.version_key import VersionKey

WITHIN_S: Final = 600.0
BY: Final = "crashes"
log: Final = logging.getLogger("gateway.control.pool")
StopNow = Callable[[str, int, str, str, dict[str, Any]], object]


class CrashCounts:
    """Deaths by candidate and epoch: a resume starts a new count.

    `epoch`: the epoch of a candidate's release, None if it has none or is stopped. `release`: the settings of a model's
    release. `clock` in seconds.
    """

    def __init__(
        self,
        stop_now: StopNow,
        epoch: Callable[[VersionKey], int | None],
        release: Callable[[str], ReleaseSettings | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop_now = stop_now
        self._epoch = epoch
        self._release = release
        self._clock = clock
        self._deaths: dict[VersionKey, tuple[int, list[float]]] = {}

    def died(self, process: VersionProcess, why: str) -> None:
        """The process has died after it had loaded its version; `why`: such as "died by SIGFPE"."""
        key = process.spec.key
        if process.spec.role is not Role.CANDIDATE:
            return
        epoch, release = self._epoch(key), self._release(key[0])
        if epoch is None or release is None:
            return
        now_s = self._clock()
        counted, before = self._deaths.get(key, (epoch, []))
        recent = [at_s for at_s in before if counted == epoch and now_s - at_s < WITHIN_S] + [now_s]
        self._deaths[key] = epoch, recent
        most = (release.guards or GuardsSettings()).breaker.crashes
        if len(recent) >= most:
            deaths = "once" if len(recent) == 1 else f"{len(recent)} times within ten minutes"
            reason = f"its process ended {deaths} (guards.breaker.crashes: {most}); the last one {why}"
            self._stop_now(*key, BY, reason, {"deaths": len(recent), "within_s": WITHIN_S, "last": why})
