"""Loads versions from disk, one at a time, and remembers why some of them are not served."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError, ModelUnavailable
from gateway.instruments import Instruments, Key
from gateway.serving.repository import Repository
from gateway.serving.trim import Trimmer
from gateway.serving.version import LoadedVersion, load_version
from gateway.settings.model_settings import ModelSettings

UNLOADED: Final = "unloaded"
log: Final = logging.getLogger("gateway.serving")


class Loader:
    """`left_out`: versions that must not be loaded, because loading them has killed a process, and what was seen.

    `reasons`: why a version is not served.
    """

    def __init__(self, repository: Repository, instruments: Instruments, left_out: Mapping[Key, str]) -> None:
        self.left_out = left_out
        self.reasons: dict[Key, str] = {}
        self._repository = repository
        self._instruments = instruments
        self._trimmer = Trimmer()

    async def load(self, name: str, number: int) -> LoadedVersion:
        """The version, loaded in a thread and warm. Raises ModelUnavailable, SettingsError."""
        if (name, number) in self.left_out:
            raise ModelUnavailable(self.left_out[name, number])
        file = self._repository.model_file(name, number)
        settings, sample = self._repository.settings(name), self._repository.sample(name)
        with self._instruments.loading(name, number):
            loaded = await asyncio.to_thread(self._loaded, file, settings, sample)
        self.reasons.pop((name, number), None)
        if loaded.session.warning:
            log.warning("version %d of '%s': %s", number, name, loaded.session.warning)
        return loaded

    async def settle(self) -> None:
        """There is no more to load for now."""
        await asyncio.to_thread(self._trimmer.trim)

    def _loaded(self, file: Path, settings: ModelSettings, sample: Path) -> LoadedVersion:
        loaded = load_version(file, settings, sample)
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

    def failed(self, wanted: Iterable[Key]) -> dict[Key, str]:
        """Those that should be served and could not be loaded."""
        return {key: self.reasons[key] for key in wanted if self.reasons.get(key, UNLOADED) != UNLOADED}
