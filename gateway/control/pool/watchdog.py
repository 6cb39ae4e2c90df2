"""Handles workers that die, hang or load without end: finds the version responsible and acts on it."""

from gateway.backends.content_verdicts import ContentVerdicts
from gateway.control.pool.crash_counts import CrashCounts
from gateway.control.pool.crashing_versions import CrashingVersions
from gateway.control.pool.death_attribution import DeathAttribution, StopNow
from gateway.control.pool.heartbeats import Heartbeats
from gateway.control.pool.worker_handle import WorkerActivity, WorkerHandle
from gateway.control.pool.worker_pool import WorkerPool
from gateway.settings.gateway import GatewaySettings
from gateway.shm.boards import Boards
from gateway.shm.scoreboard import LOADING
from gateway.version_key import VersionKey


class Watchdog:
    """Combines heartbeats, death attribution and the search for crashing versions. Runs on control's loop. `stop_now`
    stops a candidate, as an operator would. Call `watch` before anything else.
    """

    pool: WorkerPool
    heartbeats: Heartbeats

    def __init__(self, settings: GatewaySettings, contents: ContentVerdicts, stop_now: StopNow, boards: Boards) -> None:
        self._settings = settings
        self._board = boards.switchboard
        self._scoreboard = boards.scoreboard
        self._versions = boards.versions
        self.crashing_versions = CrashingVersions(contents, settings.models.load_timeout)
        self._deaths = DeathAttribution(stop_now, self._epoch)
        self.crash_counts = CrashCounts(stop_now, self._epoch, lambda name: self.pool.config.routing.models.get(name))

    def watch(self, pool: WorkerPool) -> None:
        """Set the worker pool to watch."""
        self.pool = pool
        pool.on_died_alone = self.crash_counts.died_alone
        server = self._settings.server
        self.heartbeats = Heartbeats(
            pool,
            self._scoreboard,
            self._versions,
            timeout_s=server.heartbeat_timeout,
            load_timeout_s=lambda key: self.crashing_versions.load_timeout_s(key, pool),
            drain_s=server.drain,
        )

    def activity_of(self, handle: WorkerHandle) -> WorkerActivity:
        """What the worker was loading and running, by its shared memory. Call before its successor writes there."""
        loading = self._versions.name_of(self._scoreboard.head(handle.index)[LOADING] - 1)
        running = (
            key
            for key, slot in self._versions.in_use()
            if key in self.pool.config.releases and self._scoreboard.running(handle.index, slot)
        )
        return WorkerActivity(loading, tuple(running))

    async def on_worker_death(self, handle: WorkerHandle, code: int) -> bool:
        """Call when a worker has ended with exit code `code`. Returns whether the cause of
        its death has been removed.
        """
        stopped = self._deaths.attribute(handle, code)
        return await self.crashing_versions.on_worker_death(handle, code, self.pool) or stopped

    def _epoch(self, key: VersionKey) -> int | None:
        slot = self.pool.config.releases.get(key)
        return None if slot is None or self._board.stopped(slot) else self._board.epoch(slot)
