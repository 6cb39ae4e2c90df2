"""Makes the versions in service: loaded in this worker, or connected to their own process."""

import logging
import time
from collections.abc import Mapping
from typing import Final

from gateway.backends.in_worker import in_worker
from gateway.backends.inert_guards import inert_guards
from gateway.backends.loaded_version import LoadedVersion
from gateway.backends.output_checks import Stopped
from gateway.backends.process.client import ProcessBackend
from gateway.backends.remote.client import RemoteBackend
from gateway.backends.version import ModelVersion
from gateway.errors import GatewayError, ModelUnavailable
from gateway.messages import ProcessSockets
from gateway.settings.routing import ReleaseSettings
from gateway.shm.tally import Tally
from gateway.worker.models.loader import Loader
from gateway.worker.models.shared_state import SharedState

log: Final = logging.getLogger("gateway.worker.models")


class VersionFactory:
    """Makes the ModelVersions of one worker. `sockets`: of the versions that run in their own process. `kept`: by
    model, the version to keep loaded for an undo of its promotion.
    """

    def __init__(
        self, loader: Loader, shared_state: SharedState, sockets: ProcessSockets, kept: Mapping[str, int]
    ) -> None:
        self.sockets = sockets
        self.kept = kept
        self._loader = loader
        self._shared_state = shared_state

    async def reuse_or_make(
        self, name: str, number: int, settings: ReleaseSettings, current: Mapping[int, ModelVersion]
    ) -> ModelVersion:
        """The version among `current` (in service now) if `settings` allow it, else a new one. Raises GatewayError."""
        now = current.get(number)
        if now is None:
            return await self.make(name, number, settings)
        if self._is_reusable(now, settings):
            return now
        loaded = now.facts if isinstance(now.facts, LoadedVersion) else None
        return await self.make(name, number, settings, loaded)

    async def make(
        self, name: str, number: int, settings: ReleaseSettings, loaded: LoadedVersion | None = None
    ) -> ModelVersion:
        """Make the version for these settings: connected to its process, or loaded here unless `loaded` is given.

        Raises GatewayError if it cannot be loaded or connected.
        """
        stable = number != settings.candidate
        where = self.sockets.versions.get((name, number))
        if where is not None:
            tally = self._shared_state.tally(name, number)
            backend = await self._loader.connect(name, number, where, tally, patient=stable)
            compared = stable and settings.latency_compared
            return ModelVersion(name, number, backend.facts, backend, tally, stable=stable, latency_compared=compared)
        if self._loader.is_remote(name, number):
            return await self._remote(name, number, settings)
        loaded = loaded or await self._loader.load(name, number)
        tally = self._shared_state.tally(name, number)
        if stable:
            baseline = self._baseline(name, number, loaded, tally)
            compared = settings.latency_compared and baseline is None
            return in_worker(name, number, loaded, tally, compared=compared, baseline=baseline)
        return in_worker(name, number, loaded, tally, self._stopped(name, number))

    async def make_kept(
        self, name: str, settings: ReleaseSettings, current: Mapping[int, ModelVersion]
    ) -> ModelVersion | None:
        """The version to keep loaded for an undo; None if there is none, if another server runs it, or if it does not
        load: then an undo has to load it, and says why it cannot.
        """
        number = self.kept.get(name)
        if number is None or number in (settings.stable, settings.candidate) or self._loader.is_remote(name, number):
            return None
        try:
            return await self.reuse_or_make(name, number, settings, current)
        except GatewayError as error:
            log.warning("version %d of '%s', stable before the promotion, is not kept loaded: %s", number, name, error)
            return None

    def _stopped(self, name: str, candidate: int) -> Stopped:
        """Tells whether the candidate is stopped."""
        switch = self._shared_state.switch(name, candidate)
        return lambda: switch.stopped(time.monotonic_ns())

    async def _remote(self, name: str, number: int, settings: ReleaseSettings) -> ModelVersion:
        """The version that another server runs."""
        stable = number != settings.candidate
        tally = self._shared_state.tally(name, number)
        stopped = None if stable else self._stopped(name, number)
        backend = await self._loader.reach(name, number, tally, stopped)
        compared = stable and settings.latency_compared
        return ModelVersion(name, number, backend.facts, backend, tally, stable=stable, latency_compared=compared)

    def _baseline(self, name: str, number: int, loaded: LoadedVersion, tally: Tally) -> ModelVersion | None:
        """The stable version in a process, if latencies are compared, beside the worker's own. The process may start
        later.
        """
        where = self.sockets.baselines.get(name)
        if where is None:
            return None
        backend = ProcessBackend(where, tally, patient=False)
        backend.connect_later(loaded)
        return ModelVersion(name, number, loaded, backend, tally, stable=True, latency_compared=True)

    def _is_reusable(self, version: ModelVersion, settings: ReleaseSettings) -> bool:
        """Whether a version in service can be kept for its role under `settings`."""
        if version.backend.where != self.sockets.versions.get((version.name, version.number), ""):
            return False
        if version.number == settings.candidate:
            return not version.stable
        if isinstance(version.backend, RemoteBackend):
            return version.stable and version.latency_compared == settings.latency_compared
        baseline = version.baseline.backend.where if version.baseline is not None else None
        wanted = self.sockets.baselines.get(version.name)
        compared = settings.latency_compared and wanted is None
        return version.stable and version.latency_compared == compared and baseline == wanted


def check_pair(name: str, settings: ReleaseSettings, stable: ModelVersion, candidate: ModelVersion) -> None:
    """Raise ModelUnavailable if the candidate cannot answer stable's requests, or if a guard can never act."""
    stable.signature.check_replaceable_by(candidate.signature, candidate.number)
    measurable = {version.number: version.predictions.measurable for version in (stable, candidate)}
    if problems := inert_guards(name, settings, measurable):
        raise ModelUnavailable(
            "\n".join((*problems, f"an edit of model.yaml takes effect when '{name}' is loaded again"))
        )
