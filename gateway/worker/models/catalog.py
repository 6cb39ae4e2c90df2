"""The models in service, with the versions and the release of each, as a request finds them on arrival.

`ModelCatalog.models` is replaced as a whole. A request reads it once, so it sees one configuration throughout.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TypeVar

from gateway.backends.not_served import UnservedEntry
from gateway.backends.repository import Repository
from gateway.backends.version import ModelVersion
from gateway.errors import GatewayError, NotFound, ServerUnreachable
from gateway.messages import NO_PROCESSES, ProcessSockets, RunsOn
from gateway.settings.routing import ReleaseSettings, RoutingSettings
from gateway.shm.tally import Totals
from gateway.version_key import VersionKey
from gateway.worker.models.index import IndexedVersion, ModelIndex
from gateway.worker.models.load_options import DEFAULTS, LoadOptions
from gateway.worker.models.loader import Loader
from gateway.worker.models.served_model import ServedModel, versions_of
from gateway.worker.models.shared_state import SharedState
from gateway.worker.models.version_factory import VersionFactory, check_pair

T = TypeVar("T")
_Prepared = tuple[RoutingSettings, frozenset[str], Mapping[str, ServedModel], Mapping[str, str], int]


class ModelCatalog:
    """Loads, swaps, drains and unloads models. Runs on one event loop; versions load in threads.

    `routing`: every model to serve. `configured`: the models with their own entry in the routing file, all if it is
    None; if one of them cannot be served, nothing changes. `unavailable`: versions that must not be loaded here because
    loading them has killed a process, with the reason. `unloaded`: models that a client has unloaded. `sockets`: of the
    versions that run in a process of their own; the others run here. `kept`: as in LoadOptions.
    """

    def __init__(
        self,
        repository: Repository,
        routing: RoutingSettings,
        shared_state: SharedState,
        *,
        unavailable: Mapping[VersionKey, str] | None = None,
        generation: int = 1,
        configured: frozenset[str] | None = None,
        unloaded: frozenset[str] = frozenset(),
        sockets: ProcessSockets = NO_PROCESSES,
        kept: Mapping[str, int] | None = None,
    ) -> None:
        self._configured = frozenset(routing.models) if configured is None else configured
        self._generation = generation
        self._routing = routing
        self._shared_state = shared_state
        self._loader = Loader(repository, self._shared_state, unavailable or {})
        self._factory = VersionFactory(self._loader, self._shared_state, sockets, kept or {})
        self._index = ModelIndex(repository, self._loader.reasons)
        self._unloaded = unloaded
        self._change = asyncio.Lock()
        self._draining: dict[asyncio.Task[None], ModelVersion] = {}
        self._prepared: _Prepared | None = None
        self.models: Mapping[str, ServedModel] = {}
        self.unreachable: Mapping[str, str] = {}  # models not served because of stable's server, and why

    async def start(self) -> None:
        """Load every model of the routing.

        Raises ModelUnavailable if the stable version of a configured model does not load. Anything else that does not
        load is left out, and the index says why: a broken candidate or a stray folder must not keep stable from
        serving. All stable versions load first, so they are in service whatever a candidate does while it loads.
        """
        stables: dict[str, ModelVersion] = {}
        for name in self._unloaded:
            self._loader.mark_unloaded(name)
        for name in self._loader.load_order(self._routing.models.keys() - self._unloaded):
            settings = self._routing.models[name]
            try:
                stables[name] = await self._factory.make(name, settings.stable, settings)
            except GatewayError as error:
                if name in self._configured and not isinstance(error, ServerUnreachable):
                    raise
                self.unreachable = self._unserved(name, settings.stable, error, self.unreachable)
        self.models = {
            name: await self._load(name, self._routing.models[name], stable) for name, stable in stables.items()
        }
        await self._loader.trim_memory()

    async def prepare(
        self,
        routing: RoutingSettings,
        generation: int,
        configured: frozenset[str] | None = None,
        options: LoadOptions = DEFAULTS,
    ) -> None:
        """Load what `routing` needs in addition to what is served. Raises GatewayError, and then nothing has changed.

        Versions that are served already are kept. The prepared models wait for `commit` or `discard`.
        """
        async with self._change:
            self.discard()
            self._use(options)
            configured = frozenset(routing.models) if configured is None else configured
            models: dict[str, ServedModel] = {}
            unreachable: Mapping[str, str] = {}
            try:
                for name, settings in sorted(routing.models.items()):
                    if name in options.unloaded:
                        self._loader.mark_unloaded(name)
                        continue
                    try:
                        models[name] = await self._updated(name, settings, generation, options)
                    except GatewayError as error:
                        if name in configured and (name in self.models or not isinstance(error, ServerUnreachable)):
                            raise
                        unreachable = self._unserved(name, settings.stable, error, unreachable)
                        if name in self.models:
                            models[name] = self.models[name]
            except GatewayError:
                self._retire(versions_of(models.values()) - versions_of(self.models.values()))
                raise
            self._prepared = routing, configured, models, unreachable, generation
            await self._loader.trim_memory()

    def commit(self) -> None:
        """Serve what was prepared, from the next request on; versions that are no longer used drain and unload."""
        assert self._prepared is not None
        before = self.models
        self._routing, self._configured, self.models, self.unreachable, self._generation = self._prepared
        self._prepared = None
        self._retire(versions_of(before.values()) - versions_of(self.models.values()))

    def discard(self) -> None:
        """Forget what was prepared."""
        if self._prepared is not None:
            self._retire(versions_of(self._prepared[2].values()) - versions_of(self.models.values()))
            self._prepared = None

    async def load(self, name: str, routing: RoutingSettings | None = None, options: LoadOptions = DEFAULTS) -> None:
        """Load the model from disk, again if it is served already, and swap it in. Raises GatewayError.

        `routing`: given if it adds a model that was not served before.
        """
        async with self._change:
            self._routing = routing or self._routing
            self._use(options)
            settings = self._routing.models.get(name)
            if settings is None:
                raise NotFound(f"the repository has no model '{name}'")
            reasons = self._loader.take_reasons(name)
            try:
                self._replace(name, await self._reloaded(name, settings))
            except GatewayError as error:
                self._loader.reasons.update(reasons)  # control asks again for what is still unavailable
                if name in self.unreachable:
                    self.unreachable = self._unserved(name, settings.stable, error, self.unreachable)
                raise
            await self._loader.trim_memory()

    async def unload(self, name: str) -> None:
        """Stop serving the model; requests under way are answered. Raises NotFound if it is not served."""
        async with self._change:
            if name not in self.models and name not in self.unreachable:
                raise NotFound(f"model '{name}' is not loaded")
            self._loader.mark_unloaded(name)
            self._replace(name, None)

    def totals(self, version: ModelVersion) -> tuple[Totals, int]:
        """What all workers have counted for a version, and when the last of them answered (monotonic ns; 0: never)."""
        return self._shared_state.totals(version.name, version.number)

    def runs_on(self) -> dict[VersionKey, RunsOn]:
        """The providers that run each served version, with a warning if requested ones are missing."""
        facts = {(v.name, v.number): v.facts for v in versions_of(self.models.values())}
        return {key: RunsOn(one.providers, one.warning) for key, one in facts.items()}

    def index(self) -> list[IndexedVersion]:
        """Every version on disk, and whether it is served."""
        return self._index.entries(self.models)

    def unserved_entries(self) -> list[UnservedEntry]:
        """Entries of the repository that look like a model or a version but are in no index of versions."""
        return self._index.unserved_entries(self.models)

    def failures(self) -> list[IndexedVersion]:
        """The versions that should be served and are not."""
        return self._index.failures()

    def unavailable(self) -> dict[VersionKey, str]:
        """The versions that should be served and could not be loaded, and why."""
        models = self._routing.models
        wanted = ((name, one) for name in models for one in (models[name].stable, models[name].candidate) if one)
        return self._loader.failed(wanted)

    async def close(self) -> None:
        """Unload everything and end what still runs: callers have had their time to get an answer."""
        versions = versions_of(self.models.values())
        self.models = {}
        for version in (*versions, *self._draining.values()):
            version.abandon()
        await asyncio.gather(*(version.close() for version in versions), *self._draining)

    def _use(self, options: LoadOptions) -> None:
        self._loader.unavailable = options.unavailable
        self._factory.sockets, self._factory.kept = options.sockets, options.kept

    def _unserved(self, name: str, stable: int, error: GatewayError, known: Mapping[str, str]) -> Mapping[str, str]:
        """Note why the model is not served. Returns those that are unreachable, `known` without it."""
        self._loader.mark_unserved(name, stable, error)
        return _without(known, name) | ({name: str(error)} if isinstance(error, ServerUnreachable) else {})

    def _replace(self, name: str, served: ServedModel | None) -> None:
        old = self.models.get(name)
        self.models = _without(self.models, name) | ({name: served} if served is not None else {})
        self.unreachable = _without(self.unreachable, name)
        self._retire(versions_of([old] if old is not None else ()))

    def _retire(self, versions: Iterable[ModelVersion]) -> None:
        for version in versions:
            task = asyncio.get_running_loop().create_task(version.close())
            self._draining[task] = version
            task.add_done_callback(self._draining.pop)

    async def _reloaded(self, name: str, settings: ReleaseSettings) -> ServedModel:
        """The model loaded from disk again. Raises GatewayError if stable or a candidate that is served fails."""
        served = self.models.get(name)
        loses = served is not None and settings.candidate in served.versions
        stable = await self._factory.make(name, settings.stable, settings)
        try:
            return await self._load(name, settings, stable, strict=loses)
        except GatewayError:
            self._retire([stable])
            raise

    async def _load(
        self, name: str, settings: ReleaseSettings, stable: ModelVersion, *, strict: bool = False
    ) -> ServedModel:
        """The model with its candidate loaded from disk; one that does not load is left out, unless `strict`."""
        versions = {settings.stable: stable}
        if settings.candidate is not None:
            try:
                versions[settings.candidate] = await self._candidate(name, settings, stable)
            except GatewayError as error:
                if strict:
                    raise
                self._loader.reasons[name, settings.candidate] = str(error)
                settings = _without_candidate(settings)
        kept = await self._factory.make_kept(name, settings, {})
        return ServedModel(name, settings, versions, self._shared_state, self._generation, kept)

    async def _candidate(self, name: str, settings: ReleaseSettings, stable: ModelVersion) -> ModelVersion:
        """The candidate in service. Raises GatewayError if it does not load or cannot replace stable."""
        assert settings.candidate is not None
        candidate = await self._factory.make(name, settings.candidate, settings)
        try:
            check_pair(name, settings, stable, candidate)
        except GatewayError:
            self._retire([candidate])
            raise
        return candidate

    async def _updated(
        self, name: str, settings: ReleaseSettings, generation: int, options: LoadOptions
    ) -> ServedModel:
        """The model under new settings; versions in service are kept. Raises GatewayError if one does not load."""
        try:
            return await self._all_updated(name, settings, generation, options)
        except GatewayError as error:
            away = isinstance(error, ServerUnreachable)  # of a candidate: stable is served meanwhile
            if not (options.catch_up or away) or settings.candidate is None:
                raise
            alone = await self._all_updated(name, _without_candidate(settings), generation, options)
            self._loader.reasons[name, settings.candidate] = str(error)
            return alone

    async def _all_updated(
        self, name: str, settings: ReleaseSettings, generation: int, options: LoadOptions
    ) -> ServedModel:
        served = self.models.get(name) if name not in options.reload else None
        before = served.all_versions() if served else {}
        stable = await self._factory.reuse_or_make(name, settings.stable, settings, before)
        versions = {settings.stable: stable}
        if settings.candidate is not None:
            try:
                candidate = await self._factory.reuse_or_make(name, settings.candidate, settings, before)
                versions[settings.candidate] = candidate
                check_pair(name, settings, stable, candidate)
            except GatewayError:
                self._retire(set(versions.values()) - set(before.values()))
                raise
        kept = await self._factory.make_kept(name, settings, before)
        return ServedModel(name, settings, versions, self._shared_state, generation, kept)


def _without(mapping: Mapping[str, T], name: str) -> dict[str, T]:
    return {key: value for key, value in mapping.items() if key != name}


def _without_candidate(settings: ReleaseSettings) -> ReleaseSettings:
    """The settings without the candidate."""
    return settings.model_copy(update={"candidate": None, "split": None})
