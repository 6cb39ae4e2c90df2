"""Counts the deaths of candidates' processes, and stops a release after `guards.breaker.crashes` within ten minutes."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.control.pool.version_process import Role, VersionProcess
from gateway.messages import DiedAlone
from gateway.settings.guards import GuardsSettings
from gateway.settings.routing import ReleaseSettings
from gateway.version_key import VersionKey

WITHIN_S: Final = 600.0
NAMED_WITHIN_S: Final = 0.1  # that a stop waits for the name of the last prediction: there is no process meanwhile
MOST_NAMED: Final = 10  # predictions in a reason
BY: Final = "crashes"
log: Final = logging.getLogger("gateway.control.pool")
StopNow = Callable[[str, int, str, str, dict[str, Any]], object]


@dataclass(slots=True)
class _Deaths:
    """The deaths of one candidate in `epoch`. `predictions`: those that ran alone when the process died, with the time
    (s) of the report. `stopping`: the stop, once there are enough deaths.
    """

    epoch: int
    at_s: list[float] = field(default_factory=list)
    predictions: list[tuple[float, str]] = field(default_factory=list)
    stopping: asyncio.TimerHandle | None = None
    why: str = ""


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
        self._deaths: dict[VersionKey, _Deaths] = {}

    def died(self, process: VersionProcess, why: str) -> None:
        """The process has died after it had loaded its version; `why`: such as "died by SIGFPE"."""
        key = process.spec.key
        if process.spec.role is not Role.CANDIDATE:
            return
        deaths = self._of(key)
        if deaths is None or deaths.stopping is not None:
            return
        deaths.at_s.append(self._clock())
        deaths.why = why
        most = self._most(key)
        if most is not None and len(deaths.at_s) >= most:
            wait_s = NAMED_WITHIN_S if len(deaths.predictions) == len(deaths.at_s) - 1 else 0.0
            if wait_s:
                deaths.stopping = asyncio.get_running_loop().call_later(wait_s, self._stop, key)
            else:
                self._stop(key)

    def died_alone(self, report: DiedAlone) -> None:
        """A worker says which prediction the process has died of."""
        deaths = self._of(report.version)
        if deaths is None:
            return
        deaths.predictions.append((self._clock(), report.prediction_id))
        if deaths.stopping is not None and len(deaths.predictions) >= len(deaths.at_s):
            self._stop(report.version)

    def _of(self, key: VersionKey) -> _Deaths | None:
        """The candidate's recent deaths; None if it is none, or stopped."""
        epoch = self._epoch(key)
        if epoch is None or self._most(key) is None:
            return None
        deaths = self._deaths.get(key)
        if deaths is None or deaths.epoch != epoch:
            deaths = self._deaths[key] = _Deaths(epoch)
        since_s = self._clock() - WITHIN_S
        deaths.at_s = [at_s for at_s in deaths.at_s if at_s > since_s]
        deaths.predictions = [one for one in deaths.predictions if one[0] > since_s]
        return deaths

    def _most(self, key: VersionKey) -> int | None:
        release = self._release(key[0])
        return None if release is None else (release.guards or GuardsSettings()).breaker.crashes

    def _stop(self, key: VersionKey) -> None:
        last = self._deaths.get(key)
        if last is not None and last.stopping is not None:  # cleared first: until then, no death is counted
            last.stopping.cancel()
            last.stopping = None
        deaths, most = self._of(key), self._most(key)
        if deaths is None or most is None or len(deaths.at_s) < most:
            return  # resumed, no candidate any more, or `crashes` was raised meanwhile
        count, predictions = len(deaths.at_s), [name for _, name in deaths.predictions]
        times = "once" if count == 1 else f"{count} times within ten minutes"
        reason = f"its process ended {times} (guards.breaker.crashes: {most}); the last one {deaths.why}"
        if len(predictions) >= count:
            named = ", ".join(predictions[:MOST_NAMED])
            reason += f"; each time it ran one request alone, of the predictions {named}"
        evidence = {"deaths": count, "within_s": WITHIN_S, "last": deaths.why, "predictions": predictions}
        self._stop_now(*key, BY, reason, evidence)
