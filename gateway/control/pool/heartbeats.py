"""Detects workers without a heartbeat, or that load a version for too long, and has them ended and replaced.

Elapsed time is counted between control's own checks, at most a fifth of a second for each, so that after a pause of the
whole machine or of control no worker counts as silent without having had a chance to run. Neither does a worker that is
waiting for a core: a busy host is not the worker's fault.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.control.pool.worker_handle import WorkerHandle, WorkerState
from gateway.control.pool.worker_pool import WorkerPool
from gateway.shm.scoreboard import HEARTBEATS, LOADING, Scoreboard
from gateway.shm.slots import Slots
from gateway.version_key import VersionKey

MAX_STEP_S: Final = 0.2  # what one check adds at most
STARTUP_TIMEOUT_S: Final = 60.0  # from the start of a process to its first heartbeat, unless the timeout is longer
REPORTED_SILENT_S: Final = 2.0  # a worker silent for so long is reported as silent
STARVED_SHARE: Final = 0.5  # share of the silence spent waiting for a core above which the limit is extended
STARVED_LIMIT_FACTOR: Final = 6  # the extended limit, in multiples of the limit
SILENT_REASON, LOAD_REASON = "silent", "load"  # reasons for which workers are ended


@dataclass(slots=True)
class _Watched:
    """`silent_s`: since the last heartbeat; `loading_s`: since it began to load the version in slot `slot - 1`."""

    handle: WorkerHandle
    beats: int = 0
    silent_s: float = 0.0
    cpu_wait_ns: int = 0  # for a core, at the beginning of the silence
    slot: int = 0
    loading_s: float = 0.0


class Heartbeats:
    """Checks all workers at each `tick`, which must be called often.

    `timeout_s`: for a heartbeat; `load_timeout_s`: the time allowed to load a version; `drain_s`: for a worker that
    serves while it loads for too long; `clock` in seconds.
    """

    def __init__(
        self,
        pool: WorkerPool,
        scoreboard: Scoreboard,
        versions: Slots,
        *,
        timeout_s: float,
        load_timeout_s: Callable[[VersionKey], float],
        drain_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._scoreboard = scoreboard
        self._versions = versions
        self._timeout_s = timeout_s
        self._load_timeout_s = load_timeout_s
        self._drain_s = drain_s
        self._clock = clock
        self._checked_s = clock()
        self._watched: dict[int, _Watched] = {}

    def tick(self) -> None:
        """Check every worker; give up those beyond their limits."""
        now_s = self._clock()
        step_s = min(now_s - self._checked_s, MAX_STEP_S)
        self._checked_s = now_s
        for handle in self._pool.handles.values():
            if handle.state in (WorkerState.DEAD, WorkerState.DRAINING) or handle.end_reason:
                self._watched.pop(handle.index, None)
                continue
            one = self._watched.get(handle.index)
            if one is None or one.handle is not handle:
                one = self._watched[handle.index] = _Watched(handle)
            self._check(one, step_s)

    def silent(self) -> int:
        """The number of ready workers that have shown no heartbeat for REPORTED_SILENT_S."""
        return sum(
            one.silent_s >= REPORTED_SILENT_S and one.handle.state is WorkerState.READY
            for one in self._watched.values()
        )

    def _check(self, one: _Watched, step_s: float) -> None:
        head = self._scoreboard.head(one.handle.index)
        if head[HEARTBEATS] != one.beats:
            one.beats, one.silent_s = head[HEARTBEATS], 0.0
        else:
            self._check_silence(one, step_s)
        if head[LOADING] != one.slot:
            one.slot, one.loading_s = head[LOADING], 0.0
        elif one.slot:
            self._check_load(one, step_s)

    def _check_silence(self, one: _Watched, step_s: float) -> None:
        before_s, one.silent_s = one.silent_s, one.silent_s + step_s
        limit_s = self._timeout_s if one.beats else max(self._timeout_s, STARTUP_TIMEOUT_S)
        pid = one.handle.process.pid
        if before_s == 0.0:
            one.cpu_wait_ns = cpu_wait_ns(pid)
        if one.silent_s < limit_s or one.handle.end_reason:
            return
        starved = cpu_wait_ns(pid) - one.cpu_wait_ns > STARVED_SHARE * one.silent_s * 1e9
        if not starved or one.silent_s >= STARVED_LIMIT_FACTOR * limit_s:
            self._pool.end_worker(one.handle, SILENT_REASON, f"has shown no sign of life for {one.silent_s:.3g} s")

    def _check_load(self, one: _Watched, step_s: float) -> None:
        key = self._versions.name_of(one.slot - 1)
        one.loading_s += step_s
        if key is None or one.handle.end_reason or one.loading_s < (limit_s := self._load_timeout_s(key)):
            return
        serves = one.handle.state is WorkerState.READY
        why = f"has been loading version {key[1]} of '{key[0]}' for {limit_s:g} s"
        one.handle.load_timed_out = True
        self._pool.end_worker(one.handle, LOAD_REASON, why, self._drain_s if serves else None)


def cpu_wait_ns(pid: int) -> int:
    """How long the process's main thread has been runnable without a core, in ns; 0 if the
    system does not report it.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
