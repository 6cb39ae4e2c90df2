"""The tag `gateway.stopped` on versions of the registry: why a version was stopped here, and where the evidence is."""

from typing import Final

from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.versions import RegistryVersions
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.errors import RegistryNotFound
from gateway.registry.mlflow_client import MlflowClient
from gateway.registry.origin import utc_text
from gateway.system.printable import printable
from gateway.version_key import VersionKey

TAG: Final = "gateway.stopped"
MOST_REASON: Final = 1500  # characters; older servers take 5,000 in a tag


class StopTags:
    """`address`: of the control plane, as people reach it."""

    def __init__(
        self,
        client: MlflowClient,
        versions: RegistryVersions,
        decision_log: DecisionLog,
        memory: RegistryMemory,
        address: str,
    ) -> None:
        self._client = client
        self._versions = versions
        self._decision_log = decision_log
        self._memory = memory
        self._address = address
        self._keys: frozenset[VersionKey] = frozenset()
        self._by_model: dict[str, list[int]] = {}

    def stops(self, model: str) -> dict[int, int]:
        """The sequence of the decision, by stopped version of the model."""
        found = ((version, self._decision_log.stopped(model, version)) for version in self._by_model.get(model, ()))
        return {version: decision.sequence for version, decision in found if decision is not None}

    def refresh(self) -> None:
        """Look up all stops anew; `stops` and what is below is by these."""
        keys = self._decision_log.stopped_keys()
        if keys != self._keys:
            self._keys = keys
            self._by_model = {}
            for model, version in keys:
                self._by_model.setdefault(model, []).append(version)

    def pending(self, model: str, memory: ModelMemory) -> int:
        """How many versions have a stop or a resume that is not dealt with yet."""
        return len({version for version, _ in self.stops(model).items() ^ memory.tags.items()})

    async def tell(self, model: str, memory: ModelMemory) -> None:
        """Set and remove tags, so that they are as the stops. Raises RegistryError, OSError."""
        stops = self.stops(model)
        for version in stops.keys() | memory.tags.keys():
            if stops.get(version) == memory.tags.get(version):
                continue
            decision = self._decision_log.stopped(model, version)
            if await self._versions.came_from(model, version, memory.registered):
                await self._tell_of(model, memory, version, decision)
            if decision is None:
                memory.tags.pop(version, None)
                memory.written.pop(version, None)
            else:
                memory.tags[version] = decision.sequence
            self._memory.save()

    async def _tell_of(self, model: str, memory: ModelMemory, version: int, stop: ReleaseDecision | None) -> None:
        try:
            there = await self._client.version(memory.registered, version)
            if stop is None:
                written = memory.written.get(version) or self._evidence(model, memory.tags.get(version, 0))
                if there.tags.get(TAG, "").endswith(written):  # else it is of another gateway, or of a person
                    await self._client.delete_tag(memory.registered, version, TAG)
                return
            said_by_other = TAG in there.tags and version not in memory.tags  # another host of the fleet
            if await self._versions.is_same(model, there) and not said_by_other:
                await self._client.set_tag(memory.registered, version, TAG, self._text(stop))
                memory.written[version] = self._evidence(stop.model, stop.sequence)
        except RegistryNotFound:
            return  # the version is gone there

    def _text(self, stop: ReleaseDecision) -> str:
        when, reason = utc_text(stop.time_ns / 1e9), printable(stop.reason[:MOST_REASON])
        return f"{when} by {stop.by}: {reason}{self._evidence(stop.model, stop.sequence)}"

    def _evidence(self, model: str, sequence: int) -> str:
        """The end of the tag's text, by which it is known as this gateway's."""
        return f"; evidence: {self._address}/api/decisions?model={model} (decision {sequence})"
