"""Control's housekeeping, once a second: frees unused slots, closes unused processes, and rebalances connections
between workers.
"""

import time
from collections.abc import Callable
from typing import Final

from gateway.control.pool.connection_balance import ConnectionBalancer
from gateway.control.pool.version_processes import VersionProcesses
from gateway.control.pool.worker_handle import WorkerState
from gateway.control.pool.worker_pool import WorkerPool
from gateway.messages import CloseConnections
from gateway.shm.scoreboard import CONNECTIONS_BUSY, CONNECTIONS_OPEN, Scoreboard
from gateway.shm.slots import Slots

INTERVAL_S: Final = 1.0


class Housekeeping:
    """Call `tick` more often than once a second. `clock` in seconds."""

    def __init__(
        self,
        pool: WorkerPool,
        processes: VersionProcesses,
        scoreboard: Scoreboard,
        versions: Slots,
        releases: Slots,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._processes = processes
        self._scoreboard = scoreboard
        self._versions = versions
        self._releases = releases
        self._clock = clock
        self._next_s = 0.0
        self._balancer = ConnectionBalancer()
        self._serving: set[int] = set()  # process ids of the workers that were ready at the last check

    def tick(self, changing: bool) -> None:
        """Do the work if a second has passed. `changing`: a configuration is being applied, whose slots no generation
        names yet, so none is freed.
        """
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._next_s = now_s + INTERVAL_S
        if not changing:
            self._sweep()
        self._rebalance()

    def connections(self) -> dict[tuple[int, str], int]:
        """The number of connections of each worker, by (worker, "open" or "busy")."""
        kinds = {"open": CONNECTIONS_OPEN, "busy": CONNECTIONS_BUSY}
        return {
            (worker, kind): count
            for kind, word in kinds.items()
            for worker, count in enumerate(self._scoreboard.per_worker(word))
        }

    def _sweep(self) -> None:
        configs = [
            self._pool.config,
            *(m.config for m in self._pool.handles.values() if m.state is not WorkerState.DEAD),
        ]
        self._processes.close_unused(configs)
        if len(self._versions.slots()) > len(configs[0].versions):
            self._versions.sweep(lambda key: any(key in config.versions for config in configs))
        if len(self._releases.slots()) > len(configs[0].releases):
            self._releases.sweep(lambda key: any(key in config.releases for config in configs))

    def _rebalance(self) -> None:
        busy = self._scoreboard.per_worker(CONNECTIONS_BUSY)
        handles = self._pool.ready_handles()
        before, self._serving = self._serving, {handle.process.pid for handle in handles}
        if self._serving - before:
            self._balancer.reset()
        asks = self._balancer.to_close({handle.index: busy[handle.index] for handle in handles})
        for handle in handles:
            if handle.index in asks:
                handle.send(CloseConnections(asks[handle.index]))
