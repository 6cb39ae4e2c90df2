"""Load and unload requests: a client sends one to a worker, and control executes it in all workers."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Protocol

from gateway.backends.trial import LoadResult, LoadTrial
from gateway.backends.trial_cache import harmful
from gateway.control.config.acceptance import RoutingAcceptance
from gateway.control.config.load_history import LoadHistory
from gateway.control.config.resolve import ResolvedRouting
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.pool.version_processes import VersionProcesses
from gateway.control.pool.worker_pool import WorkerPool
from gateway.control.release.decisions import DecisionLog
from gateway.errors import GatewayError, InvalidRequest, NotFound
from gateway.messages import ConfigGeneration, Load, LoadRequest, ProcessSockets, Unload
from gateway.settings.routing import ReleaseSettings, RoutingSettings
from gateway.version_key import VersionKey

ITSELF: Final = "gateway"  # who loads a version that comes late
log: Final = logging.getLogger("gateway.control.config")


class LoadRequestContext(Protocol):
    """What LoadRequestHandler needs of the control plane."""

    pool: WorkerPool
    acceptance: RoutingAcceptance
    routing_file: RoutingFileWatcher
    decision_log: DecisionLog
    served: Mapping[str, ReleaseSettings]

    processes: VersionProcesses

    def apply_load(
        self, name: str, resolved: ResolvedRouting, sockets: ProcessSockets, unavailable: Mapping[VersionKey, str]
    ) -> ConfigGeneration:
        """Add a model that is about to be loaded from disk again, perhaps one that was not served before."""


class LoadRequestHandler:
    """Executes load requests one at a time, and not while an edit is being applied. Runs on control's loop."""

    def __init__(self, control: LoadRequestContext, changing: asyncio.Lock) -> None:
        self._control = control
        self._changing = changing
        self._late_tasks: set[asyncio.Task[None]] = set()
        self.late: list[VersionKey] = []  # versions that `load_late` has still to load
        self._history = LoadHistory(control.decision_log)

    def handle(self, load_request: LoadRequest) -> "asyncio.Task[str]":
        """Start the request; the task returns the error, or an empty string."""
        return asyncio.get_running_loop().create_task(self._execute(load_request))

    def load_late(self, late: set[VersionKey]) -> None:
        """Load the versions that could not be loaded when they were to be served, as soon as possible."""
        if late:
            self.late += late
            task = asyncio.get_running_loop().create_task(self._load_late(sorted(late)))
            self._late_tasks.add(task)
            task.add_done_callback(self._late_tasks.discard)

    async def _load_late(self, late: list[VersionKey]) -> None:
        for name, version in late:
            error = await self._execute(LoadRequest(0, name, load=True, by=ITSELF), version)
            self.late.remove((name, version))
            if error:
                log.error(
                    "version %d of '%s' is still not served, because it cannot be loaded: %s", version, name, error
                )

    def _is_needed(self, key: VersionKey) -> bool:
        """Whether the version is to be served and some worker does not serve it."""
        pool = self._control.pool
        wanted = key in pool.config.versions and key[0] not in pool.config.unloaded
        handles = pool.accepting_handles()
        return wanted and (not handles or any(key not in handle.runs_on for handle in handles))

    async def _execute(self, load_request: LoadRequest, late: int | None = None) -> str:
        """Execute the request; returns the error, or an empty string. `late`: the version that it is for, if it is
        control's own.
        """
        async with self._changing:
            if late is not None and not self._is_needed((load_request.name, late)):
                return ""  # another load or an edit came first
            try:
                if load_request.load:
                    if digests := await self._load(load_request.name, late):
                        self._history.loaded(load_request, late, digests, self._stable(load_request.name))
                else:
                    await self._unload(load_request)
            except GatewayError as error:
                return str(error)
            except Exception as error:  # else the client would wait for ever
                log.exception("loading or unloading '%s' failed", load_request.name)
                return f"{type(error).__name__}: {error}"
            return ""

    async def _unload(self, load_request: LoadRequest) -> None:
        name, pool = load_request.name, self._control.pool
        async with pool.changing:
            errors = await pool.broadcast(lambda number: Unload(number, name))
            pool.config = config = replace(pool.config, unloaded=pool.config.unloaded | {name})
            _set_config(pool, config)
        _raise(errors)
        log.warning("'%s' was unloaded, as a client asked: requests get 404 until it is loaded again", name)
        self._history.unloaded(load_request, self._stable(name))

    def _stable(self, name: str) -> int:
        return self._control.served[name].stable

    async def _load(self, name: str, candidate: int | None) -> dict[str, str]:
        """Load the model. Returns the versions that are loaded, with the digests of their files."""
        control, pool = self._control, self._control.pool
        settings = pool.config.routing.models.get(name)
        if settings is None:
            seen = await control.acceptance.first_seen(name)
            settings = seen.routing.models[name] if seen is not None else None
        if settings is None:
            raise NotFound(f"the repository has no version of '{name}' that has a model file and is not stopped")
        verdicts = await self._try_versions(name, settings, candidate)
        others = {key: why for key, why in pool.config.unavailable.items() if key[0] != name}
        unavailable = others | harmful(verdicts)
        routing = RoutingSettings.model_construct(models={**pool.config.routing.models, name: settings})
        sockets, failed = await control.processes.prepare(routing, reload={name})
        unavailable |= self._failed(name, settings, candidate, failed)
        async with pool.changing:
            before, served = pool.config, control.served
            resolved = ResolvedRouting(routing, before.configured, control.acceptance.memory)
            config = control.apply_load(name, resolved, sockets, unavailable)
            errors = await pool.broadcast(lambda number: Load(number, name, config), staged=True, may_die=False)
            if errors:  # workers keep what they have, so its processes are needed still
                pool.config = config = replace(config, sockets=before.sockets)
            if errors and name not in served:
                await pool.broadcast(lambda number: Unload(number, name))
                pool.config = config = replace(config, unloaded=config.unloaded | {name})
            _set_config(pool, config)
        _raise(errors)
        return {
            str(verdict.trial.version): verdict.sha256
            for verdict in verdicts
            if not verdict.error and (name, verdict.trial.version) not in unavailable
        }

    def _failed(
        self, name: str, settings: ReleaseSettings, candidate: int | None, failed: Mapping[VersionKey, str]
    ) -> dict[VersionKey, str]:
        """What to leave out because its process cannot load it. Raises InvalidRequest as `_try_versions` does."""
        served = {key for handle in self._control.pool.accepting_handles() for key in handle.runs_on}
        for (model, number), why in failed.items():
            if model == name and (number in (settings.stable, candidate) or (name, number) in served):
                raise InvalidRequest(f"version {number} of '{name}': {why}")
        return {key: why for key, why in failed.items() if key[0] == name}

    async def _try_versions(self, name: str, settings: ReleaseSettings, candidate: int | None) -> list[LoadResult]:
        """Try the versions. Raises InvalidRequest if stable does not load, or if a candidate does not that is served or
        that this request is for.
        """
        control = self._control
        numbers = [number for number in (settings.stable, settings.candidate) if number is not None]
        trials = [LoadTrial(name, number, settings.stable) for number in numbers]
        verdicts = await asyncio.to_thread(control.routing_file.run_trials, trials, frozenset[str]())
        served = {key for handle in control.pool.accepting_handles() for key in handle.runs_on}
        for number, verdict in zip(numbers, verdicts, strict=True):
            if verdict.error and (number in (settings.stable, candidate) or (name, number) in served):
                raise InvalidRequest(verdict.error)
        return verdicts


def _set_config(pool: WorkerPool, config: ConfigGeneration) -> None:
    for handle in pool.accepting_handles():
        handle.config = config


def _raise(errors: list[str]) -> None:
    if errors:
        raise InvalidRequest("; ".join(errors))
