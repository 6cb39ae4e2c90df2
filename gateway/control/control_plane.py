"""The control plane's core: starts the workers, applies edits, and answers what is in force.
Everything here runs on the control process's event loop.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from gateway.auth.fleet_rate_limit import create_rate_shares
from gateway.auth.rate_limit import create_rate_counters
from gateway.control.class_names import LoadedClassNames
from gateway.control.command_priority import CommandPriority
from gateway.control.config.editor import RoutingEditor
from gateway.control.config.generations import GenerationFactory, without_unavailable_stables
from gateway.control.config.load_requests import LoadRequestHandler
from gateway.control.config.resolve import ResolvedRouting
from gateway.control.config.startup import StartupState
from gateway.control.fleet.assembly import open_membership
from gateway.control.fleet.keys_assembly import open_keys
from gateway.control.fleet.rates_assembly import count_for_workers, open_rates, open_removal
from gateway.control.fleet.routing_assembly import open_routing
from gateway.control.metrics.registry_metrics import RegistryStatus
from gateway.control.pool.housekeeping import Housekeeping
from gateway.control.pool.remote_versions import RemoteVersions
from gateway.control.pool.version_processes import VersionProcesses
from gateway.control.pool.watchdog import Watchdog
from gateway.control.pool.worker_handle import WorkerState, runs_on, unavailable_versions
from gateway.control.pool.worker_pool import WorkerPool
from gateway.control.publication import Note, publish
from gateway.control.record_writer.collector import RecordCollector
from gateway.control.records_jobs import RecordsJobs
from gateway.control.release.known_effects import known_record
from gateway.control.release.manager import ReleaseManager
from gateway.control.release.trip_decisions import TripHandler
from gateway.control.stop import CandidateStopper
from gateway.control.stop_resume import StopAndResume
from gateway.control.traffic.history import TrafficHistory
from gateway.errors import GatewayError, NotFound, SettingsError
from gateway.messages import AdoptKeys, ConfigGeneration, ProcessSockets, RunsOn, Start
from gateway.records.token_keys import TokenKeys
from gateway.routing.release import Release, ReleaseCache
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing import ReleaseSettings
from gateway.shm.boards import Boards
from gateway.shm.leftovers import remove_leftovers
from gateway.shm.owner import BOARD, measured_path
from gateway.shm.scoreboard import VERSIONS, Scoreboard
from gateway.shm.slots import ReleaseSlots, VersionSlots
from gateway.shm.switchboard import RELEASES, Switchboard
from gateway.version_key import VersionKey

FILE_CHECK_TIMEOUT_S: Final = 0.2
log: Final = logging.getLogger("gateway.control")


class ControlPlane:
    """The control process's state and operations. `start` starts the workers; `tick` must be iterated every 50 ms."""

    def __init__(self, settings: GatewaySettings, startup: StartupState, workers: int, port: int) -> None:
        self.state = state = Path(settings.state)
        self.max_proposal = settings.models.max_proposal
        self.decision_log = startup.decision_log
        self._settings = settings
        self._port = port
        self.repository = startup.repository
        self.routing_file = startup.routing_file
        self.acceptance = startup.acceptance
        self._first = startup.validated
        self.routing_file.warn(startup.resolved.entries())
        memory = startup.shared_memory.path
        remove_leftovers(memory.name)
        self.board = Switchboard.create(memory.with_suffix(BOARD), workers)
        self.scoreboard = Scoreboard.create(memory.with_suffix(".scoreboard"), workers)
        measured_path(self.scoreboard.segment.path).unlink(missing_ok=True)  # left by an earlier run
        self.versions = VersionSlots(VERSIONS, self.scoreboard)
        self.releases = ReleaseSlots(RELEASES, self.board)
        replace_once = partial(self.decision_log.replace_file, retried=False)  # stops come first; it is saved often
        self.records = RecordCollector(settings.records, state, memory.name, workers, replace_once)
        self.records_settings = settings.records
        self.records_jobs = RecordsJobs(state)
        limited = settings.limits.rate, self.scoreboard.segment.path, workers
        self._rate_counters = create_rate_counters(*limited)
        self._rate_shares = create_rate_shares(*limited) if settings.fleet is not None else None
        self.board.heartbeat()
        self.served: Mapping[str, ReleaseSettings] = startup.resolved.routing.models
        self._release_cache = ReleaseCache()
        self.stopper = CandidateStopper(self.board, self.releases, self.decision_log, self._live_generations)
        boards, stop = Boards(self.board, self.scoreboard, self.versions, self.releases), self.stopper.stop
        self.release_manager = ReleaseManager(state, boards, self.records, self.decision_log, stop)
        self.stopper.known_of = lambda *stopped: known_record(self.release_manager.effects(*stopped))
        replace = self.decision_log.replace_file
        self.traffic = TrafficHistory(state, self.scoreboard, self.versions, replace, self.records.top_counts.forget)
        self.trip_handler = TripHandler(state, self.board, self.releases, self.decision_log, startup.inherited, stop)
        self._changing = asyncio.Lock()
        self.command_priority = CommandPriority()
        self.watchdog = Watchdog(settings, self.routing_file.trial_runner.contents, stop, boards)
        self.generations = GenerationFactory(self.versions, self.releases, self.board, self.decision_log)
        died = self.watchdog.crash_counts.died
        self.processes = VersionProcesses(self.repository, memory.name, settings, died)
        self.remote_versions = RemoteVersions(self.repository)
        sockets = self.processes.assign_sockets(self.processes.specs(startup.resolved.routing))
        config = self.generations.make(1, startup.resolved, sockets)
        self._load_requests = LoadRequestHandler(self, self._changing)
        watched = self.watchdog.on_worker_death, self.watchdog.activity_of
        self.pool: WorkerPool = WorkerPool(workers, config, self._start_of, self._load_requests.handle, *watched)
        self.watchdog.watch(self.pool)
        self.housekeeping = Housekeeping(self.pool, self.processes, self.scoreboard, self.versions, self.releases)
        self.release_manager.configure(self.served, self.processes.declared)
        self.class_names = LoadedClassNames()
        self.class_names.put_in_force(self.served, self.processes.settings)
        self.commands = StopAndResume(self)
        self.fleet = open_membership(
            settings, port, self.board, lambda: self.served, self.decision_log, self.commands, self.release_manager
        )
        books = self._rate_counters, self._rate_shares
        self.rates = open_rates(settings, self.fleet, *books, self.decision_log)
        if self.rates is not None:
            count_for_workers(self.rates, self.pool)
        self.host_removal = open_removal(settings, self.fleet, self.rates)
        self.prediction_keys = open_keys(
            settings, self.fleet, self.records.keys, self._adopt_keys, lambda: self.pool.listening
        )
        self.editor = RoutingEditor(
            self.routing_file,
            self.decision_log,
            lambda written, note: self.reload(written=written, note=note),
            self.acceptance.history,
        )
        self.fleet_routing = open_routing(settings, self.fleet, self.routing_file, self.editor, self.decision_log)
        self.registry: RegistryStatus | None = None  # replaced as a whole by what follows the registry
        self.board.publish(1)

    async def start(self) -> None:
        """Start the workers and wait until all of them serve. Raises SettingsError with the reason if one cannot."""
        self.records.writer.start()
        if known := bool(self.acceptance.memory):  # else a file whose models do not load would be remembered
            await self._accept_first()
        await self.watchdog.crashing_versions.note_contents(self.pool.config)
        self.pool.start()
        ready = asyncio.get_running_loop().create_task(self.pool.ready.wait())
        await asyncio.wait((ready, self.pool.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.pool.failed.done():
            ready.cancel()
            raise SettingsError(str(self.routing_file.path), [self.pool.failed.result()])
        if not known:
            await self._accept_first()
        self.watchdog.crashing_versions.mark_loaded_good()
        self.board.serve()
        self._restoring = asyncio.get_running_loop().create_task(self._restore_traffic())
        self._cleaning = asyncio.get_running_loop().create_task(asyncio.to_thread(self.records_jobs.remove_leftovers))

    async def _restore_traffic(self) -> None:
        self.traffic.adopt(await asyncio.to_thread(self.traffic.read))

    async def _accept_first(self) -> None:
        async with self._changing:
            if self._first is not None and self.pool.config.generation == 1:  # else an edit was applied first
                await self.acceptance.accept(self._first)

    def end_trials(self) -> None:
        """Abort the load trials under way, since the gateway is shutting down."""
        self.watchdog.crashing_versions.close()
        self.routing_file.trial_runner.end("the gateway ends")

    def close(self) -> None:
        """Write the remaining records and decisions to disk, and remove the shared-memory files."""
        self.remote_versions.close()
        self.records_jobs.close()
        self.records.stop()
        self.release_manager.close()
        self.traffic.save(self.served)
        self.decision_log.close()
        for book in (self.board, self.scoreboard, self._rate_counters, self._rate_shares):
            if book is not None:
                book.segment.remove()
        measured_path(self.scoreboard.segment.path).unlink(missing_ok=True)

    def tick(self) -> Iterator[None]:
        """One control tick: publish the stops that workers' circuit breakers tripped, evaluate the releases, do the
        upkeep, check the workers' heartbeats and write control's own. Yields between pieces so that a stop can be
        handled: with hundreds of releases a tick takes milliseconds.
        """
        self.trip_handler.tick(self.served)
        yield from self.release_manager.steps()
        yield
        yield from self.traffic.steps(self.served)
        self.housekeeping.tick(self._changing.locked() or self.pool.changing.locked())
        yield
        self.watchdog.heartbeats.tick()
        yield
        self.processes.tick()
        yield
        if self.pool.ready.is_set():
            unavailable = self.unavailable()
            late = self.watchdog.crashing_versions.take_slow() | self.processes.take_newly_ready(unavailable)
            late |= self.remote_versions.take_late(unavailable, self._load_requests.late)
            self.remote_versions.check(self.pool.config.routing)
            self._load_requests.load_late(late)
        self.board.heartbeat()

    async def reload(self, *, settled: bool = False, written: bytes | None = None, note: Note | None = None) -> None:
        """Load the routing file and apply it in all workers or in none; `configuration.status` holds the result.

        `settled`: only if the file is unchanged since `configuration.changed` saw it. `written`: the text that a
        command wrote; if the file still holds it, `note` records that command's decision.
        """
        async with self._changing:
            began = self.stopper.snapshot()
            try:
                now = await asyncio.to_thread(self.routing_file.read, settled=settled)
                if now is None:
                    return
                validated = await asyncio.to_thread(self.acceptance.validate, now, self.served.keys())
                validated = replace(validated, stopped=validated.stopped - {self.editor.promoting})
                self.stopper.edit_validated(began, now, validated.resolved.routing.models)
                needed = self.routing_file.needed_trials
                trials = await asyncio.to_thread(needed, validated.resolved.routing, self.pool.loaded())
                verdicts = await asyncio.to_thread(self.routing_file.run_trials, trials, validated.resolved.configured)
                await publish(self, validated, verdicts, note if now.content == written else None)
                await asyncio.to_thread(self.routing_file.warn, validated.accepted.routing)
            except Exception as error:  # the watch must survive any error, to read the next edit
                if not isinstance(error, GatewayError):
                    error = SettingsError(str(self.routing_file.path), [f"{type(error).__name__}: {error}"])
                self.routing_file.record_failure(error)
                log.error("the configuration is refused; the last valid one stays in force:\n%s", error)
            else:
                self.routing_file.record_success()
                log.info("generation %d of the configuration is in force", self.pool.config.generation)
            finally:
                self.stopper.edit_finished()

    def unavailable(self) -> dict[VersionKey, str]:
        """The versions that some worker could not load or that the generation leaves out, with the reasons."""
        return unavailable_versions(self.pool.handles.values()) | dict(self.pool.config.unavailable)

    def runs_on(self, name: str, version: int) -> RunsOn | None:
        """The version's execution providers, from the worker with the longest warning; None if no worker serves it."""
        return runs_on(self.pool.handles.values(), (name, version))

    def release(self, name: str) -> Release:
        """The compiled release of a model, under the weights in force. Call it in a thread: many rules take long to
        compile. Raises NotFound.
        """
        release = self._release_cache.of(name, self.settings_of(name))
        release.set_weights(tuple(self.release_manager.weights_ppm(name).values()))
        return release

    def settings_of(self, name: str) -> ReleaseSettings:
        """The release settings in force for a model. Raises NotFound."""
        if name not in self.served:
            raise NotFound(f"there is no model '{name}'; there are {', '.join(sorted(self.served))}")
        return self.served[name]

    def _live_generations(self) -> Iterable[ConfigGeneration]:
        handles = self.pool.handles.values()
        return (self.pool.config, *(handle.config for handle in handles if handle.state is not WorkerState.DEAD))

    def apply_load(
        self, name: str, resolved: ResolvedRouting, sockets: ProcessSockets, unavailable: Mapping[VersionKey, str]
    ) -> ConfigGeneration:
        """Add a model that is about to be loaded from disk again, perhaps one that was not served before."""
        self.pool.config = config = self.generations.make_reload(name, self.pool.config, resolved, sockets, unavailable)
        self.served = resolved.routing.models
        self.release_manager.configure(self.served, self.processes.declared)
        self.class_names.put_in_force(self.served, self.processes.settings, {name})
        return config

    def _adopt_keys(self, keys: TokenKeys) -> None:
        self.records.adopt(keys)
        for handle in self.pool.handles.values():
            handle.send(AdoptKeys(keys))

    def _start_of(self, index: int, config: ConfigGeneration) -> Start:
        self.board.begin(index, self.releases.used())
        self.scoreboard.begin(index, self.versions.used())
        if self.pool.ready.is_set() and not self.pool.ready_handles():
            config = without_unavailable_stables(config)
        return Start(
            worker=index, workers=self.pool.size, settings=self._settings, port=self._port, config=config,
            switchboard=self.board.segment.path, scoreboard=self.scoreboard.segment.path,
            rings=self.records.rings[index], token_keys=self.records.keys,
        )  # fmt: skip
