"""Loads versions from disk, one at a time, and keeps the reasons why versions are not served."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from gateway.backends.content_verdicts import Content
from gateway.backends.loaded_version import LoadedVersion, load_version
from gateway.backends.memory_trim import Trimmer
from gateway.backends.output_checks import Stopped
from gateway.backends.process.client import ProcessBackend
from gateway.backends.remote.client import RemoteBackend
from gateway.backends.remote.facts import facts_of
from gateway.backends.remote.server import Server
from gateway.backends.repository import Repository
from gateway.backends.shared_measurements import Measurement, Measurements
from gateway.errors import GatewayError, ModelUnavailable
from gateway.settings.model import ModelSettings
from gateway.shm.tally import Tally
from gateway.version_key import VersionKey
from gateway.worker.models.shared_state import SharedState

CONNECT_S: Final = 10.0  # for a version's process to answer; a slower one is connected later
UNLOADED: Final = "unloaded"
log: Final = logging.getLogger("gateway.worker.models")


class Loader:
    """The loader of one worker. `unavailable`: versions that must not be loaded, because loading them has killed a
    process, with the error message. `reasons`: why a version is not served.
    """

    def __init__(
        self, repository: Repository, shared_state: SharedState, unavailable: Mapping[VersionKey, str]
    ) -> None:
        self.unavailable = unavailable
        self.reasons: dict[VersionKey, str] = {}
        self._repository = repository
        self._shared_state = shared_state
        self._trimmer = Trimmer()
        self._measurements = Measurements(shared_state.measurements_path, repository.path)

    async def load(self, name: str, number: int) -> LoadedVersion:
        """Load and warm up the version, in a thread. Raises ModelUnavailable, SettingsError."""
        if (name, number) in self.unavailable:
            raise ModelUnavailable(self.unavailable[name, number])
        content = self._measurements.content((name, number))  # before any of its files is read
        file = self._repository.model_file(name, number)
        settings, sample = self._repository.settings(name), self._repository.sample(name)
        with self._shared_state.loading(name, number):
            loaded = await asyncio.to_thread(self._loaded, (name, number), content, file, settings, sample)
        self.reasons.pop((name, number), None)
        if loaded.session.warning:
            log.warning("version %d of '%s': %s", number, name, loaded.session.warning)
        return loaded

    async def connect(self, name: str, number: int, where: str, tally: Tally, *, patient: bool) -> ProcessBackend:
        """Connect to the version's process, which listens at the socket `where`. Raises ModelUnavailable."""
        if (name, number) in self.unavailable:
            raise ModelUnavailable(self.unavailable[name, number])
        backend = ProcessBackend(where, tally, patient=patient)
        try:
            await backend.start(None if patient else CONNECT_S)  # stable must be served, however long its process loads
        except ModelUnavailable as error:
            raise ModelUnavailable(f"version {number} of '{name}': {error}") from None
        self.reasons.pop((name, number), None)
        if backend.facts.warning:
            log.warning("version %d of '%s': %s", number, name, backend.facts.warning)
        return backend

    def is_remote(self, name: str, number: int) -> bool:
        """Whether another server runs the version."""
        return self._repository.is_remote(name, number)

    async def reach(self, name: str, number: int, tally: Tally, stopped: Stopped | None) -> RemoteBackend:
        """Ask the version's server what it takes. Raises ModelUnavailable, ServerUnreachable or SettingsError."""
        server, settings = await asyncio.to_thread(self._server, name, number)  # reads files; the disk may not answer
        try:
            facts, binary = await facts_of(server, settings)
        except ModelUnavailable as error:
            raise type(error)(f"version {number} of '{name}': {error}") from None
        self.reasons.pop((name, number), None)
        return RemoteBackend(server, facts, binary, tally, stopped)

    def _server(self, name: str, number: int) -> tuple[Server, ModelSettings]:
        return Server(name, self._repository.remote_file(name, number)), self._repository.settings(name)

    async def trim_memory(self) -> None:
        """Trim the worker's memory, in a thread. Called after a series of loads."""
        await asyncio.to_thread(self._trimmer.trim)

    def load_order(self, names: Iterable[str]) -> list[str]:
        """The order to load `names` in: each worker begins elsewhere and reuses what others have measured."""
        ordered = sorted(names)
        first = int(len(ordered) * self._shared_state.start_fraction)
        return ordered[first:] + ordered[:first]

    def _loaded(
        self, key: VersionKey, content: Content, file: Path, settings: ModelSettings, sample: Path
    ) -> LoadedVersion:
        known = self._measurements.find(content)
        loaded = load_version(file, settings, sample, known)
        if self._measurements.content(key) != content:  # replaced: the measurements are of other content
            loaded = load_version(file, settings, sample) if known else loaded
        elif known is None:
            found = Measurement(loaded.warm_up, loaded.loop_limits, loaded.sha256, loaded.session.providers)
            self._measurements.publish(content, found)
        self._trimmer.after_load()
        return loaded

    def mark_unloaded(self, name: str) -> None:
        """Mark all versions of the model as unloaded, after a client has asked for it."""
        self.reasons.update({(name, version): UNLOADED for version in self._repository.versions(name)})

    def take_reasons(self, name: str) -> dict[VersionKey, str]:
        """Remove and return the reasons why versions of the model are not served."""
        return {key: self.reasons.pop(key) for key in list(self.reasons) if key[0] == name}

    def mark_unserved(self, name: str, stable: int, error: GatewayError) -> None:
        """Note why a model without an entry in the routing file is not served. No other version is served instead."""
        there = stable in self._repository.versions(name)
        remedy = "" if there else "; put its folder back, or name another version as stable in the routing file"
        self.reasons[name, stable] = f"{error}{remedy}"

    def failed(self, wanted: Iterable[VersionKey]) -> dict[VersionKey, str]:
        """Those of `wanted` that could not be loaded, with the reasons; not those that a client has unloaded."""
        return {key: self.reasons[key] for key in wanted if self.reasons.get(key, UNLOADED) != UNLOADED}
