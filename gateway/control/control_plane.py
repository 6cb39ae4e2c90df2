"""The control plane's core: starts the workers, executes stop, resume and reload, and answers what is in force.
Everything here runs on the control process's event loop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.auth.rate_limit import new_book
from gateway.backends.trial import LoadResult
from gateway.backends.trial_cache import harmful
from gateway.control.config.acceptance import Judged
from gateway.control.config.file_snapshot import Standing
from gateway.control.config.generations import Plans, without_lost
from gateway.control.config.load_requests import Wishes
from gateway.control.config.resolve import Resolved
from gateway.control.config.startup import Opening
from gateway.control.order_priority import Pressing
from gateway.control.pool.preparation import prepared
from gateway.control.pool.send_fence import sends_over
from gateway.control.pool.upkeep import Upkeep
from gateway.control.pool.watchdog import Watchdog
from gateway.control.pool.worker_handle import WorkerState, left_out, runs_on
from gateway.control.pool.worker_pool import WorkerPool
from gateway.control.record_writer.collector import RecordCollector
from gateway.control.release.decisions import ReleaseDecision
from gateway.control.release.disk import Disk, DiskSilent
from gateway.control.release.manager import ReleaseManager
from gateway.control.release.trip_decisions import Tripping
from gateway.control.stop import UNKNOWN, Stopping
from gateway.errors import Conflict, GatewayError, NotFound, SettingsError
from gateway.messages import Commit, ConfigGeneration, Discard, RunsOn, Start
from gateway.routing.release import Release, ReleaseCache
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing import ReleaseSettings
from gateway.shm.boards import Boards
from gateway.shm.leftovers import remove_leftovers
from gateway.shm.owner import BOARD, measured_path
from gateway.shm.scoreboard import VERSIONS, Scoreboard
from gateway.shm.slots import ReleaseSlots, VersionSlots
from gateway.shm.switchboard import RELEASES, Switchboard
from gateway.system.scheduling import set_realtime
from gateway.version_key import VersionKey

LOOKED_WITHIN_S: Final = 0.2
log: Final = logging.getLogger("gateway.control")


class ControlPlane:
    """The control process's state and operations. `start` starts the workers; `work` must be iterated every 50 ms."""

    def __init__(self, settings: GatewaySettings, opening: Opening, workers: int, port: int) -> None:
        state = Path(settings.state)
        self.stops = opening.stops
        self._settings = settings
        self._port = port
        self.repository = opening.repository
        self.configuration = opening.configuration
        self.accepting = opening.accepting
        self._first = opening.judged
        self.configuration.warn(opening.resolved.entries())
        memory = opening.memory.path
        remove_leftovers(memory.name)
        self.board = Switchboard.create(memory.with_suffix(BOARD), workers)
        self.scoreboard = Scoreboard.create(memory.with_suffix(".scoreboard"), workers)
        measured_path(self.scoreboard.segment.path).unlink(missing_ok=True)  # left by an earlier run
        self.versions = VersionSlots(VERSIONS, self.scoreboard)
        self.releases = ReleaseSlots(RELEASES, self.board)
        self.records = RecordCollector(settings.records, state, memory.name, workers)
        self._ratebook = new_book(settings.limits.rate, self.scoreboard.segment.path, workers)
        self.board.heartbeat()
        self.served: Mapping[str, ReleaseSettings] = opening.resolved.routing.models
        self._compiled = ReleaseCache()
        self.stopping = Stopping(self.board, self.releases, self.stops, self._plans_alive)
        boards, stop = Boards(self.board, self.scoreboard, self.versions, self.releases), self.stopping.stop
        self.release_manager = ReleaseManager(state, boards, self.records, self.stops, stop)
        self._tripping = Tripping(state, self.board, self.releases, self.stops, opening.inherited, stop)
        self._changing = asyncio.Lock()
        self.pressing = Pressing()
        self._eye = Disk("look", LOOKED_WITHIN_S, set_realtime)
        self.watchdog = Watchdog(settings, self.configuration.trying.contents, stop, boards)
        self._plans = Plans(self.versions, self.releases, self.board, self.stops)
        plan = self._plans.make(1, opening.resolved)
        self._load_requests = Wishes(self, self._changing)
        watched = self.watchdog.died, self.watchdog.autopsy
        self.pool: WorkerPool = WorkerPool(workers, plan, self._start_of, self._load_requests.grant, *watched)
        self.watchdog.watch(self.pool)
        self.upkeep = Upkeep(self.pool, self.scoreboard, self.versions, self.releases)
        self.release_manager.configure(self.served)
        self.board.publish(1)

    async def start(self) -> None:
        """Start the workers and wait until all of them serve. Raises SettingsError with the reason if one cannot."""
        self.records.journal.start()
        if known := bool(self.accepting.memory):  # else a file whose models do not load would be remembered
            await self._accept_first()
        await self.watchdog.crashing_versions.begin(self.pool.plan)
        self.pool.start()
        ready = asyncio.get_running_loop().create_task(self.pool.ready.wait())
        await asyncio.wait((ready, self.pool.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.pool.failed.done():
            ready.cancel()
            raise SettingsError(str(self.configuration.path), [self.pool.failed.result()])
        if not known:
            await self._accept_first()
        self.watchdog.crashing_versions.began()
        self.board.serve()

    async def _accept_first(self) -> None:
        async with self._changing:
            if self._first is not None and self.pool.plan.generation == 1:  # else an edit was applied first
                await self.accepting.accept(self._first)

    def end_trials(self) -> None:
        """Abort the load trials under way, since the gateway is shutting down."""
        self.watchdog.crashing_versions.close()
        self.configuration.trying.end("the gateway ends")

    def close(self) -> None:
        """Write the remaining records and decisions to disk, and remove the shared-memory files."""
        self.records.stop()
        self.release_manager.close()
        self.stops.close()
        for book in (self.board, self.scoreboard, self._ratebook):
            if book is not None:
                book.segment.remove()
        measured_path(self.scoreboard.segment.path).unlink(missing_ok=True)

    def work(self) -> Iterator[None]:
        """One control tick: publish the stops that workers' circuit breakers tripped, evaluate the releases, do the
        upkeep, check the workers' heartbeats and write control's own. Yields between pieces so that a stop can be
        handled: with hundreds of releases a tick takes milliseconds.
        """
        self._tripping.tick(self.served)
        yield from self.release_manager.steps()
        yield
        self.upkeep.tick(self._changing.locked() or self.pool.changing.locked())
        self.watchdog.heartbeats.tick()
        if self.pool.ready.is_set():
            self._load_requests.bring_in(self.watchdog.crashing_versions.take_slow())
        self.board.heartbeat()

    async def stop(self, name: str, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Stop the model's candidates. Once this returns, no response comes from any of them, nor from the candidate of
        an edit that is being loaded. Raises NotFound, or Conflict if there is no candidate.
        """
        said = by, reason, evidence
        try:
            decision = self.stopping.stop_model(name, self._view(name), *said)
        except Conflict:
            self.settings_of(name)
            raise
        unread, _ = await asyncio.gather(self._unread(), self._kept(name))
        if unread is not None:
            self.stopping.unread(name, unread)
            self.stopping.stop_model(name, self._view(name), *said)  # the edit may have been read in the meantime
        await sends_over(self.board, self.pool)
        return decision

    async def resume(self, name: str, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Resume a stopped release in a new epoch. Raises NotFound, and Conflict if it is not stopped."""
        self.accepting.check_open(name, self.configuration.status.closed)
        candidate = self._candidate(name)
        slot = self.releases.of(name, candidate)
        if not self.board.stopped(slot):
            raise Conflict(f"'{name}' is not stopped")
        if name not in self.pool.plan.named:
            raise Conflict(f"'{name}' has no entry in the routing file any more; write it again, then resume it")
        decision = self.stops.resume(name, candidate, by, reason, evidence)
        self.stopping.resumed(name)
        self._tripping.settled(name, candidate)
        self.release_manager.close_routes(name)  # else the stopped step's weights would apply until the next tick
        self.board.resume(slot)
        await self._kept(name)
        return decision

    async def reload(
        self, *, settled: bool = False, written: bytes | None = None, note: Callable[[], object] | None = None
    ) -> None:
        """Load the routing file and apply it in all workers or in none; `configuration.status` holds the result.

        `settled`: only if the file is unchanged since `configuration.changed` saw it. `written`: the text that a
        command wrote; if the file still holds it, `note` records that command's decision.
        """
        async with self._changing:
            began = self.stopping.begin()
            try:
                now = await asyncio.to_thread(self.configuration.read, settled=settled)
                if now is None:
                    return
                judged = await asyncio.to_thread(self.accepting.judge, now, self.served.keys())
                self.stopping.expect(began, now, judged.resolved.routing.models)
                trials = await asyncio.to_thread(self.configuration.trials, judged.resolved.routing, self.pool.loaded())
                verdicts = await asyncio.to_thread(self.configuration.try_out, trials, judged.resolved.named)
                await self._publish(judged, verdicts, note if now.content == written else None)
                await asyncio.to_thread(self.configuration.warn, judged.accepted.routing)
            except Exception as error:  # the watch must survive any error, to read the next edit
                if not isinstance(error, GatewayError):
                    error = SettingsError(str(self.configuration.path), [f"{type(error).__name__}: {error}"])
                self.configuration.failed(error)
                log.error("the configuration is not loaded, the last good one stays in force:\n%s", error)
            else:
                self.configuration.succeeded()
                log.info("generation %d of the configuration is in force", self.pool.plan.generation)
            finally:
                self.stopping.expect_nothing()

    def left_out(self) -> dict[VersionKey, str]:
        """The versions that some worker could not load or that the generation leaves out, with the reasons."""
        return left_out(self.pool.handles.values()) | dict(self.pool.plan.left_out)

    def runs_on(self, name: str, version: int) -> RunsOn | None:
        """The version's execution providers, from the worker with the longest warning; None if no worker serves it."""
        return runs_on(self.pool.handles.values(), (name, version))

    def release(self, name: str) -> Release:
        """The compiled release of a model, under the weights in force. Call it in a thread: many rules take long to
        compile. Raises NotFound.
        """
        release = self._compiled.of(name, self.settings_of(name))
        release.set_weights(tuple(self.release_manager.weights_ppm(name).values()))
        return release

    def settings_of(self, name: str) -> ReleaseSettings:
        """The release settings in force for a model. Raises NotFound."""
        if name not in self.served:
            raise NotFound(f"there is no model '{name}'; there are {', '.join(sorted(self.served))}")
        return self.served[name]

    def _candidate(self, name: str) -> int:
        self.settings_of(name)
        candidate = getattr(self._view(name), "candidate", None)
        if candidate is None:
            raise Conflict(f"'{name}' has no candidate; stable answers everyone")
        return int(candidate)

    def _view(self, name: str) -> ReleaseSettings | None:
        if name not in self.served or not self.configuration.status.closed or name not in self.accepting.memory:
            return self.served.get(name)
        return self.accepting.memory[name].release()  # closed at present; the stop holds once the file is fixed

    def _plans_alive(self) -> Iterable[ConfigGeneration]:
        handles = self.pool.handles.values()
        return (self.pool.plan, *(handle.plan for handle in handles if handle.state is not WorkerState.DEAD))

    async def _unread(self) -> Standing | None:
        """The file's standing if it holds an unread edit, else None; UNKNOWN if the disk does not answer in time."""
        with contextlib.suppress(DiskSilent):
            return await self._eye.do(self.configuration.unread)
        return UNKNOWN

    async def _kept(self, name: str) -> None:
        if not await self.stops.wait_durable():
            log.error("what was decided on '%s' is in force, but not on disk: a restart would undo it", name)

    def take_in(self, name: str, resolved: Resolved, left_out: Mapping[VersionKey, str]) -> ConfigGeneration:
        """Add a model that is about to be loaded from disk again, perhaps one that was not served before."""
        self.pool.plan = plan = self._plans.loading(name, self.pool.plan, resolved, left_out)
        self.served = resolved.routing.models
        self.release_manager.configure(self.served)
        return plan

    async def _publish(self, judged: Judged, verdicts: Sequence[LoadResult], note: Callable[[], object] | None) -> None:
        """Apply a generation in two phases: every worker loads it, then every worker switches; if one cannot load, none
        does.

        Control's view is updated first, so that stops, guards and breakers know the new releases before any worker
        serves them.
        """
        served, source = judged.resolved.routing.models, str(self.configuration.path)
        plan = self._plans.make(self.pool.plan.generation + 1, judged.resolved, harmful(verdicts))
        async with prepared(self.pool, plan, source, loads=bool(verdicts)) as handles:
            if errors := self.accepting.overtaken(judged):
                await self.pool.order(Discard, handles)
                raise SettingsError(source, errors)
            self.pool.plan, self.served = plan, served
            self.release_manager.close_changed(served)
            self.release_manager.lead(served)
            await self.accepting.accept(judged, note)
            errors = await self.pool.order(Commit, handles)
            self.release_manager.open_routes()
            for handle in handles:
                handle.plan = plan
            self.board.publish(plan.generation)
            if errors:
                raise SettingsError(source, errors)

    def _start_of(self, index: int, plan: ConfigGeneration) -> Start:
        self.board.begin(index, self.releases.used())
        self.scoreboard.begin(index, self.versions.used())
        if self.pool.ready.is_set() and not self.pool.ready_handles():
            plan = without_lost(plan)
        return Start(
            worker=index, workers=self.pool.size, settings=self._settings, port=self._port, plan=plan,
            switchboard=self.board.segment.path, scoreboard=self.scoreboard.segment.path,
            rings=self.records.rings[index], token_keys=self.records.keys,
        )  # fmt: skip
