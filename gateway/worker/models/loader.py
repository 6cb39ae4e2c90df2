"""Loads versions from disk, one at a time, and remembers why some of them are not served."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from gateway.backends.content_verdicts import Content
from gateway.backends.memory_trim import Trimmer
from gateway.backends.repository import Repository
from gateway.backends.shared_measurements import Measured, Measurements
from gateway.backends.version import LoadedVersion, load_version
from gateway.errors import GatewayError, ModelUnavailable
from gateway.settings.model import ModelSettings
from gateway.version_key import VersionKey
from gateway.worker.models.shared_state import SharedState

UNLOADED: Final = "unloaded"
log: Final = logging.getLogger("gateway.worker.models")


class Loader:
    """`left_out`: versions that must not be loaded, because loading them has killed a process, and what was seen.

    `reasons`: why a version is not served.
    """

    def __init__(self, repository: Repository, shared_state: SharedState, left_out: Mapping[VersionKey, str]) -> None:
        self.left_out = left_out
        self.reasons: dict[VersionKey, str] = {}
        self._repository = repository
        self._shared_state = shared_state
        self._trimmer = Trimmer()
        self._measurements = Measurements(shared_state.measured, repository.path)

    async def load(self, name: str, number: int) -> LoadedVersion:
        """The version, loaded in a thread and warm. Raises ModelUnavailable, SettingsError."""
        if (name, number) in self.left_out:
            raise ModelUnavailable(self.left_out[name, number])
        content = self._measurements.content((name, number))  # before anything is read of it
        file = self._repository.model_file(name, number)
        settings, sample = self._repository.settings(name), self._repository.sample(name)
        with self._shared_state.loading(name, number):
            loaded = await asyncio.to_thread(self._loaded, (name, number), content, file, settings, sample)
        self.reasons.pop((name, number), None)
        if loaded.session.warning:
            log.warning("version %d of '%s': %s", number, name, loaded.session.warning)
        return loaded

    async def settle(self) -> None:
        """There is no more to load for now."""
        await asyncio.to_thread(self._trimmer.trim)

    def in_turn(self, names: Iterable[str]) -> list[str]:
        """In which order to load: workers that load the same begin in different places, and measure for each other."""
        ordered = sorted(names)
        first = int(len(ordered) * self._shared_state.part)
        return ordered[first:] + ordered[:first]

    def _loaded(
        self, key: VersionKey, content: Content, file: Path, settings: ModelSettings, sample: Path
    ) -> LoadedVersion:
        known = self._measurements.of(content)
        loaded = load_version(file, settings, sample, known)
        if self._measurements.content(key) != content:  # it is being replaced: what is known is of another
            loaded = load_version(file, settings, sample) if known else loaded
        elif known is None:
            found = Measured(loaded.warm_up, loaded.reach, loaded.sha256, loaded.session.providers)
            self._measurements.keep(content, found)
        self._trimmer.loaded()
        return loaded

    def unloaded(self, name: str) -> None:
        """A client has asked for that."""
        self.reasons.update({(name, version): UNLOADED for version in self._repository.versions(name)})

    def unserved(self, name: str, stable: int, error: GatewayError) -> None:
        """A model without an entry does not load; no other version stands in for it."""
        there = stable in self._repository.versions(name)
        remedy = "" if there else "; put its folder back, or name another version as stable in the routing file"
        self.reasons[name, stable] = f"{error}{remedy}"

    def failed(self, wanted: Iterable[VersionKey]) -> dict[VersionKey, str]:
        """Those that should be served and could not be loaded."""
        return {key: self.reasons[key] for key in wanted if self.reasons.get(key, UNLOADED) != UNLOADED}
