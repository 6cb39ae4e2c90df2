"""Hosts of a fleet that follow one registry, each with what it really uses, over one store; contact is set by a test.

The registry and the repositories answer at once. A host that is away does not tick; its release is the fleet's again
some turns after it is back, as it has the fleet's edits to make then.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gateway.control.fleet.store import OwnDocument
from gateway.control.fleet.task_leader import TaskLeader
from gateway.control.registry.lead import FleetLead
from gateway.control.registry.memory import RegistryMemory
from gateway.control.registry.stop_tags import StopTags
from gateway.control.registry.sync import RegistrySync
from gateway.control.registry.takeover import Takeover
from gateway.registry.mlflow_client import ModelVersion
from tests.control.fleet.task_members import TaskMember

MODEL = "digits"


@dataclass
class Release:
    """In force on a host. `stopped`: the versions, each with the sequence of the decision there."""

    stable: int = 1
    candidate: int | None = None
    registry: str = MODEL
    stopped: dict[int, int] = field(default_factory=dict)


class World:
    """The registry and what the fleet has agreed on. `writes`: champions that hosts have set, with who did;
    `brought`: candidates that a host has proposed while it asked the registry, with who did. `by_hand`: versions that
    did not come from the registry.
    """

    def __init__(self) -> None:
        self.aliases: dict[str, int] = {"champion": 1}
        self.release = Release()
        self.writes: list[tuple[str, int]] = []
        self.brought: list[tuple[str, int]] = []
        self.by_hand: set[int] = set()


class Host:
    """One life of a host, from when it joins the fleet; it goes on after it was away."""

    def __init__(self, name: str, world: World, store: OwnDocument, clock: list[int], state: Path) -> None:
        self.name, self.world = name, world
        self.member = TaskMember(name, clock)
        self.task = TaskLeader("a task", store, self.member)
        self.lead = FleetLead(self.task)
        self.task.is_unready = lambda: self.behind or bool(self.lead.unreadable)
        self.release = Release()
        self.behind = False
        self.behind_of: set[str] = set()
        self.refusal = ""
        self._sequence = 0
        state.mkdir(parents=True, exist_ok=True)
        self.memory = RegistryMemory(state, self._write)
        self._served = {MODEL: self.release}
        log = SimpleNamespace(
            counts=Counter(), stopped_keys=lambda: frozenset((MODEL, one) for one in self.release.stopped),
            stopped=self._stop,
        )  # fmt: skip
        control: Any = SimpleNamespace(
            served=self._served, decision_log=log, registry=None,
            command_priority=SimpleNamespace(yield_to_commands=self._yield),
        )  # fmt: skip
        self._control = control
        self._log = log
        self._log.last_sequence = 0
        client: Any = Client(self)
        versions: Any = Versions(self)
        tags = StopTags(client, versions, control.decision_log, self.memory, "http://here")
        readiness: Any = SimpleNamespace(
            behind=lambda model: self.behind or model in self.behind_of, refusal=lambda model: self.refusal
        )
        self.takeover = Takeover(self.lead, readiness)
        self.sync = RegistrySync(
            control, client, versions, tags, self.memory, self.takeover, poll_s=0.0, champion_follows=False
        )

    @staticmethod
    def _write(file: Path, content: Callable[[], bytes]) -> None:
        file.write_bytes(content())

    @staticmethod
    async def _yield() -> None:
        await asyncio.sleep(0)

    def _stop(self, model: str, version: int) -> Any:
        sequence = self.release.stopped.get(version)
        return None if sequence is None else SimpleNamespace(sequence=sequence, model=model, **STOP)

    def bind(self, model: str) -> None:
        """Let another model follow the registry."""
        self._served[model] = Release(registry=model)

    def take_release(self) -> None:
        """Make the fleet's edits here, and know its stops."""
        self.release.stable, self.release.candidate = self.world.release.stable, self.world.release.candidate
        self.take_stops()

    def take_stops(self) -> None:
        """Know the fleet's stops, as any host in contact does."""
        for version in self.world.release.stopped.keys() - self.release.stopped.keys():
            self._log.last_sequence += 1
            self._log.counts[MODEL, "stop"] += 1
            self.release.stopped[version] = self._log.last_sequence

    @property
    def note(self) -> str:
        """What differs from the registry here."""
        return str(self._control.registry.models[MODEL].note)

    @property
    def followed(self) -> bool:
        """Whether all models are, as far as is known here."""
        return bool(self._control.registry.followed)

    @property
    def elsewhere(self) -> str:
        """Why this host does not ask the registry."""
        return str(self._control.registry.elsewhere)

    @property
    def problem(self) -> bool:
        """Whether that is one that does not go away by itself."""
        return bool(self._control.registry.models[MODEL].problem)

    async def tick(self) -> None:
        """Ask the registry, or follow the host that does, and end what that has begun."""
        await self.sync.tick()
        for _ in range(5):
            await asyncio.sleep(0)


STOP: Mapping[str, Any] = {"time_ns": 0, "by": "a person", "reason": "it fails"}


class Client:
    """The registry, as the gateway's client has it."""

    http = SimpleNamespace(url="http://registry")

    def __init__(self, host: Host) -> None:
        self._host, self._aliases = host, host.world.aliases

    async def aliases(self, registered: str) -> dict[str, int]:
        return dict(self._aliases)

    async def version(self, registered: str, version: int) -> ModelVersion:
        return ModelVersion(registered, version, "", "", {})

    async def set_alias(self, registered: str, alias: str, version: int) -> None:
        self._host.world.writes.append((self._host.name, version))
        self._aliases[alias] = version

    async def delete_alias(self, registered: str, alias: str) -> None:
        self._aliases.pop(alias, None)

    async def set_tag(self, *said: Any) -> None:
        pass

    async def delete_tag(self, *said: Any) -> None:
        pass


class Versions:
    """The host's repository."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def came_from(self, model: str, version: int | None, registered: str) -> bool:
        return version is not None and version not in self._host.world.by_hand

    async def is_same(self, model: str, there: ModelVersion) -> bool:
        return True

    async def is_it(self, model: str, there: ModelVersion, memory: Any) -> bool:
        return True

    async def bring(self, model: str, there: ModelVersion, *_: Any, replace: bool, as_stable: bool) -> None:
        host = self._host
        if host.task.leads:
            host.world.brought.append((host.name, there.version))
            host.world.release.candidate = there.version
        host.release.candidate = there.version

    async def promote(self, model: str, there: ModelVersion) -> None:
        release = self._host.world.release
        release.stable, release.candidate = there.version, None
        self._host.take_release()
