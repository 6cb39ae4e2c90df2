"""Which models are served, by which versions, under which release: what a request finds when it arrives.

`Deployment.models` is replaced as a whole. A request reads it once, so it sees one configuration from beginning to end.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import GatewayError, ModelUnavailable, NotFound
from gateway.routing.release import Release
from gateway.serving.repository import Repository
from gateway.serving.version import ModelVersion, load_version
from gateway.settings.routing_settings import ReleaseSettings, RoutingSettings

Progress = Callable[[str, int], None]


class VersionState(StrEnum):
    """What the repository index says of a version."""

    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One version on disk and whether it is served; `reason` says why not."""

    name: str
    version: int
    state: VersionState
    reason: str


def releases(repository: Repository, routing: RoutingSettings) -> dict[str, ReleaseSettings]:
    """The release of every model: the routing's; for a model without an entry its highest version as stable."""
    unrouted = (name for name in repository.names() if name not in routing.models)
    return {**{name: ReleaseSettings(stable=repository.versions(name)[-1]) for name in unrouted}, **routing.models}


class ServedModel:
    """One model in service: its release and the versions that the release names."""

    __slots__ = ("header_keys", "modality", "name", "release", "stable", "versions")

    def __init__(self, name: str, release: Release, versions: Mapping[int, ModelVersion], modality: str | None) -> None:
        self.name = name
        self.release = release
        self.versions = versions
        self.stable = versions[release.stable]
        self.modality = modality
        self.header_keys = tuple((header, header.encode()) for header in sorted(release.headers))


class Deployment:
    """Loads, swaps, drains and unloads. Lives on one event loop; loading itself happens in threads."""

    def __init__(self, repository: Repository, routing: RoutingSettings) -> None:
        self._repository = repository
        self._routing = routing
        self._reasons: dict[tuple[str, int], str] = {}
        self._change = asyncio.Lock()
        self._draining: set[asyncio.Task[None]] = set()
        self.models: Mapping[str, ServedModel] = {}

    async def start(self, progress: Progress = lambda name, version: None) -> None:
        """Load every model of the repository and the routing.

        A routed model whose stable version does not load raises ModelUnavailable. Anything else that does not load is
        left out, and the index says why: a broken candidate or a stray folder must not keep stable from serving.
        """
        models: dict[str, ServedModel] = {}
        for name, settings in sorted(releases(self._repository, self._routing).items()):
            try:
                models[name] = await self._load(name, settings, progress)
            except GatewayError as error:
                if name in self._routing.models:
                    raise
                self._reasons[name, settings.stable] = str(error)
        self.models = models

    async def load(self, name: str) -> None:
        """Load the model from disk, anew where it is served already, and swap it in; raises GatewayError."""
        async with self._change:
            settings = releases(self._repository, self._routing).get(name)
            if settings is None:
                raise NotFound(f"the repository has no model '{name}'")
            self._replace(name, await self._load(name, settings, lambda name, version: None))

    async def unload(self, name: str) -> None:
        """Stop serving the model; requests that have begun are answered."""
        async with self._change:
            if name not in self.models:
                raise NotFound(f"model '{name}' is not loaded")
            self._reasons.update({(name, version): "unloaded" for version in self._repository.versions(name)})
            self._replace(name, None)

    def index(self) -> list[IndexEntry]:
        """Every version on disk, and whether it is served."""
        return [self._entry(name, version) for name in self._known() for version in self._repository.versions(name)]

    def failures(self) -> list[IndexEntry]:
        """The versions that should be served and are not."""
        return [
            IndexEntry(name, version, VersionState.UNAVAILABLE, reason)
            for (name, version), reason in sorted(self._reasons.items())
        ]

    async def close(self) -> None:
        """Drain and unload everything."""
        for name in list(self.models):
            self._replace(name, None)
        await asyncio.gather(*self._draining)

    def _known(self) -> list[str]:
        return sorted({*self._repository.names(), *self.models})

    def _entry(self, name: str, version: int) -> IndexEntry:
        served = self.models.get(name)
        if served is not None and version in served.versions:
            return IndexEntry(name, version, VersionState.READY, "")
        reason = self._reasons.get((name, version), "not loaded: no release names this version")
        return IndexEntry(name, version, VersionState.UNAVAILABLE, reason)

    def _replace(self, name: str, served: ServedModel | None) -> None:
        models = {**self.models}
        old = models.pop(name, None)
        if served is not None:
            models[name] = served
        self.models = models
        for version in old.versions.values() if old is not None else ():
            task = asyncio.get_running_loop().create_task(version.close())
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)

    async def _load(self, name: str, settings: ReleaseSettings, progress: Progress) -> ServedModel:
        stable = await self._load_version(name, settings.stable, progress, stable=True)
        versions = {settings.stable: stable}
        if settings.candidate is not None:
            try:
                versions[settings.candidate] = await self._candidate(name, settings.candidate, stable, progress)
            except GatewayError as error:
                self._reasons[name, settings.candidate] = str(error)
                settings = settings.model_copy(update={"candidate": None, "split": None})
        return ServedModel(name, Release(name, settings), versions, stable.loaded.settings.modality)

    async def _candidate(self, name: str, number: int, stable: ModelVersion, progress: Progress) -> ModelVersion:
        candidate = await self._load_version(name, number, progress, stable=False)
        try:
            stable.signature.check_replaceable_by(candidate.signature, number)
        except ModelUnavailable:
            await candidate.close()
            raise
        return candidate

    async def _load_version(self, name: str, number: int, progress: Progress, *, stable: bool) -> ModelVersion:
        progress(name, number)
        file = self._repository.model_file(name, number)
        settings = self._repository.settings(name)
        loaded = await asyncio.to_thread(load_version, file, settings, self._repository.sample(name))
        self._reasons.pop((name, number), None)
        return ModelVersion(name, number, loaded, stable=stable)
