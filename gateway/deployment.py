"""Which models are served, by which versions, under which release: what a request finds when it arrives.

`Deployment.models` is replaced as a whole. A request reads it once, so it sees one configuration from beginning to end.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.errors import GatewayError, ModelUnavailable, NotFound
from gateway.instruments import Instruments
from gateway.orders import RunsOn
from gateway.served import ServedModel
from gateway.serving.inert import inert
from gateway.serving.passed_over import PassedOver
from gateway.serving.repository import Repository
from gateway.serving.version import LoadedVersion, ModelVersion, load_version
from gateway.settings.routing_settings import ReleaseSettings, RoutingSettings
from gateway.shm.tally import Totals

Key = tuple[str, int]  # a model and a version
log: Final = logging.getLogger("gateway.serving")


class VersionState(StrEnum):
    """What the repository index says of a version."""

    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One version on disk and whether it is served; `reason` says why not, or what is not as it was asked for."""

    name: str
    version: int
    state: VersionState
    reason: str


class Deployment:
    """Loads, swaps, drains and unloads. Lives on one event loop; loading itself happens in threads.

    `routing`: every model to serve. `named`: those with an entry of their own in the routing file, all where it is
    None; where one of them cannot be served, nothing is changed.
    `left_out`: versions that must not be loaded here, because loading them has killed a process, and what was seen.
    """

    def __init__(
        self,
        repository: Repository,
        routing: RoutingSettings,
        instruments: Instruments | None = None,
        left_out: Mapping[Key, str] | None = None,
        generation: int = 1,
        named: frozenset[str] | None = None,
    ) -> None:
        self._named = frozenset(routing.models) if named is None else named
        self._repository = repository
        self._generation = generation
        self._routing = routing
        self._instruments = instruments or Instruments()
        self._left_out = left_out or {}
        self._reasons: dict[Key, str] = {}
        self._change = asyncio.Lock()
        self._draining: dict[asyncio.Task[None], ModelVersion] = {}
        self._prepared: tuple[RoutingSettings, frozenset[str], dict[str, ServedModel], int] | None = None
        self.models: Mapping[str, ServedModel] = {}

    async def start(self) -> None:
        """Load every model of the routing.

        A named model whose stable version does not load raises ModelUnavailable. Anything else that does not load is
        left out, and the index says why: a broken candidate or a stray folder must not keep stable from serving.
        """
        models: dict[str, ServedModel] = {}
        for name, settings in sorted(self._routing.models.items()):
            try:
                models[name] = await self._load(name, settings)
            except GatewayError as error:
                if name in self._named:
                    raise
                self._reasons[name, settings.stable] = self._unavailable(name, settings.stable, error)
        self.models = models

    async def prepare(self, routing: RoutingSettings, generation: int, named: frozenset[str] | None = None) -> None:
        """Load what `routing` needs beside what is served now; raises GatewayError, and then nothing has changed.

        Versions that are served already are kept as they are. What is prepared waits for `commit` or `discard`.
        """
        async with self._change:
            self.discard()
            named = frozenset(routing.models) if named is None else named
            models: dict[str, ServedModel] = {}
            try:
                for name, settings in sorted(routing.models.items()):
                    try:
                        models[name] = await self._renewed(name, settings, generation)
                    except GatewayError as error:
                        if name in named:
                            raise
                        self._reasons[name, settings.stable] = self._unavailable(name, settings.stable, error)
                        if name in self.models:
                            models[name] = self.models[name]
            except GatewayError:
                self._retire(_versions(models.values()) - _versions(self.models.values()))
                raise
            self._prepared = routing, named, models, generation

    def commit(self) -> None:
        """Serve what was prepared, from the next request on; versions no longer named drain and unload."""
        assert self._prepared is not None
        before = self.models
        self._routing, self._named, self.models, self._generation = self._prepared
        self._prepared = None
        self._retire(_versions(before.values()) - _versions(self.models.values()))

    def discard(self) -> None:
        """Forget what was prepared."""
        if self._prepared is not None:
            self._retire(_versions(self._prepared[2].values()) - _versions(self.models.values()))
            self._prepared = None

    async def load(self, name: str, routing: RoutingSettings | None = None) -> None:
        """Load the model from disk, anew where it is served already, and swap it in; raises GatewayError.

        `routing`: where it names a model that was not served before.
        """
        async with self._change:
            self._routing = routing or self._routing
            settings = self._routing.models.get(name)
            if settings is None:
                raise NotFound(f"the repository has no model '{name}'")
            self._reasons = {key: why for key, why in self._reasons.items() if key[0] != name}
            served = self.models.get(name)
            loses = served is not None and settings.candidate in served.versions
            self._replace(name, await self._load(name, settings, strict=loses))

    async def unload(self, name: str) -> None:
        """Stop serving the model; requests that have begun are answered."""
        async with self._change:
            if name not in self.models:
                raise NotFound(f"model '{name}' is not loaded")
            self._reasons.update({(name, version): "unloaded" for version in self._repository.versions(name)})
            self._replace(name, None)

    def totals(self, version: ModelVersion) -> tuple[Totals, int]:
        """What all workers have counted for a version, and when the last of them answered (monotonic ns; 0: never)."""
        return self._instruments.totals(version.name, version.number)

    def runs_on(self) -> dict[Key, RunsOn]:
        """What runs each version that is served."""
        sessions = {(v.name, v.number): v.loaded.session for v in _versions(self.models.values())}
        return {key: RunsOn(session.providers, session.warning) for key, session in sessions.items()}

    def index(self) -> list[IndexEntry]:
        """Every version on disk, and whether it is served."""
        return [self._entry(name, version) for name in self._known() for version in self._versions_of(name)]

    def passed_over(self) -> list[PassedOver]:
        """What lies in the repository, looks like a model or a version, and is in no index of versions."""
        versions = {name: self._repository.versions(name) for name in self._known()}
        return [
            over for over in self._repository.passed_over() if over.version not in map(str, versions.get(over.name, ()))
        ]

    def failures(self) -> list[IndexEntry]:
        """The versions that should be served and are not."""
        return [
            IndexEntry(name, version, VersionState.UNAVAILABLE, reason)
            for (name, version), reason in sorted(self._reasons.items())
        ]

    async def close(self) -> None:
        """Unload everything, ending what still runs: whoever waits for an answer has been given the time to get it."""
        versions = _versions(self.models.values())
        self.models = {}
        for version in (*versions, *self._draining.values()):
            version.abandon()
        await asyncio.gather(*(version.close() for version in versions), *self._draining)

    def _known(self) -> list[str]:
        return sorted({*self._repository.names(), *self.models, *(name for name, _ in self._reasons)})

    def _versions_of(self, name: str) -> list[int]:
        """On disk, and those that are or should be served though their folders are gone."""
        served = self.models[name].versions if name in self.models else ()
        missed = (version for model, version in self._reasons if model == name)
        return sorted({*self._repository.versions(name), *served, *missed})

    def _unavailable(self, name: str, stable: int, error: GatewayError) -> str:
        """Why a model without an entry is not served; no other version stands in for it."""
        if stable in self._repository.versions(name):
            return str(error)
        return f"{error}; put its folder back, or name another version as stable in the routing file"

    def _entry(self, name: str, version: int) -> IndexEntry:
        served = self.models.get(name)
        if served is not None and version in served.versions:
            return IndexEntry(name, version, VersionState.READY, served.versions[version].loaded.session.warning)
        reason = (
            self._reasons.get((name, version))
            or self._repository.why_not_served(name, version)
            or "not loaded: no release names this version"
        )
        return IndexEntry(name, version, VersionState.UNAVAILABLE, reason)

    def _replace(self, name: str, served: ServedModel | None) -> None:
        models = {**self.models}
        old = models.pop(name, None)
        if served is not None:
            models[name] = served
        self.models = models
        if old is not None:
            self._retire(set(old.versions.values()))

    def _retire(self, versions: Iterable[ModelVersion]) -> None:
        for version in versions:
            task = asyncio.get_running_loop().create_task(version.close())
            self._draining[task] = version
            task.add_done_callback(self._draining.pop)

    async def _load(self, name: str, settings: ReleaseSettings, *, strict: bool = False) -> ServedModel:
        """The model, every version loaded from disk. A candidate that does not load is left out, unless `strict`."""
        stable = self._in_service(name, settings.stable, await self._loaded(name, settings.stable), settings)
        versions = {settings.stable: stable}
        if settings.candidate is not None:
            try:
                candidate = await self._loaded(name, settings.candidate)
                stable.signature.check_replaceable_by(candidate.session.signature, settings.candidate)
                _check_guards(name, settings, stable.loaded, candidate)
                versions[settings.candidate] = self._in_service(name, settings.candidate, candidate, settings)
            except GatewayError as error:
                if strict:
                    raise
                self._reasons[name, settings.candidate] = str(error)
                settings = settings.model_copy(update={"candidate": None, "split": None})
        return ServedModel(name, settings, versions, self._instruments, self._generation)

    async def _renewed(self, name: str, settings: ReleaseSettings, generation: int) -> ServedModel:
        """The model under new settings, with the versions that are served already; raises where one does not load."""
        served = self.models.get(name)
        versions: dict[int, ModelVersion] = {}
        for number in (settings.stable, *([settings.candidate] if settings.candidate else [])):
            now = served.versions.get(number) if served else None
            if now is not None and _runs_as_it_should(now, settings):
                versions[number] = now
            else:
                loaded = now.loaded if now is not None else await self._loaded(name, number)
                versions[number] = self._in_service(name, number, loaded, settings)
            if number != settings.stable:
                versions[settings.stable].signature.check_replaceable_by(versions[number].signature, number)
                _check_guards(name, settings, versions[settings.stable].loaded, versions[number].loaded)
        return ServedModel(name, settings, versions, self._instruments, generation)

    def _in_service(self, name: str, number: int, loaded: LoadedVersion, settings: ReleaseSettings) -> ModelVersion:
        tally = self._instruments.tally(name, number)
        if number != settings.candidate:
            return ModelVersion(name, number, loaded, tally, compared=settings.compares_latency)
        switch = self._instruments.switch(name, number)
        return ModelVersion(name, number, loaded, tally, lambda: switch.stopped(time.monotonic_ns()))

    async def _loaded(self, name: str, number: int) -> LoadedVersion:
        if (name, number) in self._left_out:
            raise ModelUnavailable(self._left_out[name, number])
        file = self._repository.model_file(name, number)
        loaded = await asyncio.to_thread(
            load_version, file, self._repository.settings(name), self._repository.sample(name)
        )
        self._reasons.pop((name, number), None)
        if loaded.session.warning:
            log.warning("version %d of '%s': %s", number, name, loaded.session.warning)
        return loaded


def _check_guards(name: str, settings: ReleaseSettings, stable: LoadedVersion, candidate: LoadedVersion) -> None:
    obstacles = {settings.stable: stable.classes.obstacle, settings.candidate or 0: candidate.classes.obstacle}
    if problems := inert(name, settings, obstacles):
        raise ModelUnavailable("\n".join((*problems, f"an edit of model.yaml counts once '{name}' is loaded again")))


def _runs_as_it_should(version: ModelVersion, settings: ReleaseSettings) -> bool:
    """Whether a version that is in service need not be put into it anew for its part under `settings`."""
    if version.number == settings.candidate:
        return not version.stable
    return version.stable and version.compared == settings.compares_latency


def _versions(models: Iterable[ServedModel]) -> set[ModelVersion]:
    return {version for served in models for version in served.versions.values()}
