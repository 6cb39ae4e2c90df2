"""Attributes worker deaths to the candidates that were running in them, and stops those candidates.

A fault of the process itself (SIGSEGV, SIGABRT) is caused by what ran in it: one death is enough if exactly one
candidate was running. SIGKILL may come from elsewhere (a person, or the OOM killer), so it takes two deaths within an
hour during which the candidate ran; so do faults while several candidates ran.
"""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.control.pool.worker_handle import WorkerHandle
from gateway.version_key import VersionKey

MIN_DEATHS: Final = 2
WINDOW_S: Final = 3600.0
DECIDED_BY: Final = "worker-deaths"
CRASH_SIGNALS: Final = frozenset(
    (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP)
)
TERMINATION_SIGNALS: Final = frozenset((signal.SIGTERM, signal.SIGINT))
log: Final = logging.getLogger("gateway.control.pool")
StopNow = Callable[[str, int, str, str, dict[str, Any]], object]


class DeathAttribution:
    """Counts deaths by candidate and epoch. `epoch`: returns the epoch of a candidate's release, None if it has none; a
    resume starts a new count. `clock` in seconds.
    """

    def __init__(
        self, stop_now: StopNow, epoch: Callable[[VersionKey], int | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stop_now = stop_now
        self._epoch = epoch
        self._clock = clock
        self._deaths: dict[tuple[VersionKey, int], list[float]] = {}

    def attribute(self, handle: WorkerHandle, code: int) -> bool:
        """Attribute the death of a worker with exit code `code`; returns whether a candidate was stopped for it."""
        if code >= 0 or -code in TERMINATION_SIGNALS:
            return False
        name = signal.Signals(-code).name
        suspects = handle.last_activity.running
        alone = len(suspects) == 1 and -code in CRASH_SIGNALS
        return any([self._count(key, handle.index, name, alone) for key in suspects])

    def _count(self, key: VersionKey, worker: int, name: str, alone: bool) -> bool:
        epoch = self._epoch(key)
        if epoch is None:
            return False
        now_s = self._clock()
        recent = [at_s for at_s in self._deaths.get((key, epoch), ()) if now_s - at_s < WINDOW_S]
        deaths = len(recent) + 1
        self._deaths[key, epoch] = [*recent, now_s]
        if deaths < MIN_DEATHS and not alone:
            log.error("worker %d died by %s while candidate %d of '%s' ran in it", worker, name, key[1], key[0])
            return False
        times = "a worker" if deaths == 1 else f"{deaths} workers within an hour"
        evidence: Mapping[str, Any] = {"worker": worker, "signal": name, "deaths": deaths}
        self._stop_now(*key, DECIDED_BY, f"{times} died while it ran, the last by {name}", dict(evidence))
        return True
