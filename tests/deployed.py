"""The parts of a worker as it builds them itself, on shared memory of their own, in the test's process.

Control is only as much of it as a worker needs: it gives slots to what is served, and its heartbeat never goes stale.
"""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from gateway.backends.repository import Repository
from gateway.control.config.acceptance import resolve_input
from gateway.control.config.resolve import resolve
from gateway.records.token import Signer
from gateway.settings.gateway import LimitsSettings, RecordsSettings
from gateway.settings.routing import RoutingSettings
from gateway.shm.ring import Ring
from gateway.shm.scoreboard import Scoreboard
from gateway.shm.slots import ReleaseSlots, VersionSlots
from gateway.shm.switchboard import Switchboard
from gateway.version_key import VersionKey
from gateway.worker.models.catalog import DEFAULTS, LoadOptions, ModelCatalog
from gateway.worker.models.shared_state import SharedState
from gateway.worker.pipeline import Pipeline
from gateway.worker.recorder import Recorder, RecordRings

SIGNER = Signer([(0, bytes(32))])
RING = 1 << 20
SLOTS = 64
NEVER_STALE_NS = 10**18
NOTHING_KEPT: Mapping[str, int] = {}


class WorkerBoards:
    """The boards of a gateway with one worker, and its `state`. The files last as long as this object."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="gateway-boards-"))
        weakref.finalize(self, shutil.rmtree, folder, True)
        scoreboard, switchboard = Scoreboard.create(folder / "scores", 1), Switchboard.create(folder / "switches", 1)
        switchboard.heartbeat()
        switchboard.serve()
        self.folder = folder
        self.switchboard = switchboard
        self._versions = VersionSlots(SLOTS, scoreboard)
        self._releases = ReleaseSlots(SLOTS, switchboard)
        self.state = SharedState(
            Switchboard.attach(switchboard.segment.path, 1),
            Scoreboard.attach(scoreboard.segment.path, 1),
            0,
            heartbeat_timeout_ns=NEVER_STALE_NS,
            versions={},
            releases={},
            on_trip=lambda *trip: None,
        )

    def plan(self, routing: RoutingSettings, kept: Mapping[str, int] = NOTHING_KEPT) -> None:
        """Give slots to all that `routing` names and to what is `kept`, and have the worker learn them."""
        versions: dict[VersionKey, int] = {}
        releases: dict[VersionKey, int] = {}
        for name, settings in routing.models.items():
            versions[name, settings.stable] = self._versions.of(name, settings.stable)
            if settings.candidate is not None:
                versions[name, settings.candidate] = self._versions.of(name, settings.candidate)
                releases[name, settings.candidate] = self._releases.of(name, settings.candidate)
        versions |= {key: self._versions.of(*key) for key in kept.items()}
        self.state.update_slots(versions, releases)


class Catalog(ModelCatalog):
    """The models of a worker that is told of new slots as it is by control: before each change."""

    def __init__(
        self, repository: Repository, routing: RoutingSettings, configured: frozenset[str] | None = None
    ) -> None:
        self.boards = WorkerBoards()
        self.boards.plan(routing)
        super().__init__(repository, routing, self.boards.state, configured=configured)

    async def prepare(
        self,
        routing: RoutingSettings,
        generation: int,
        configured: frozenset[str] | None = None,
        how: LoadOptions = DEFAULTS,
    ) -> None:
        self.boards.plan(routing, how.kept)
        await super().prepare(routing, generation, configured, how)

    async def load(self, name: str, routing: RoutingSettings | None = None, how: LoadOptions = DEFAULTS) -> None:
        self.boards.plan(routing or self._routing, how.kept)
        await super().load(name, routing, how)


class Deployed:
    """A pipeline over `catalog`, and its `rings` of `size` bytes each, which only the test drains. `settings`: of the
    records.
    """

    def __init__(
        self,
        catalog: Catalog,
        signer: Signer = SIGNER,
        size: int = RING,
        limits: LimitsSettings = LimitsSettings(),  # noqa: B008 - frozen
        **settings: Any,
    ) -> None:
        folder, state = catalog.boards.folder, catalog.boards.state
        streams = [field.name for field in fields(RecordRings)]
        self.rings = RecordRings(**{name: Ring.create(folder / f"{name}.ring", size) for name in streams})
        recorder = Recorder(signer, RecordsSettings(**settings), self.rings, state.head)
        self.pipeline = Pipeline(catalog, limits, state, recorder)


def served_by(repository: Repository, routing: RoutingSettings) -> Catalog:
    """A catalog as control would plan it where nothing is remembered."""
    resolved = resolve(routing, resolve_input({}, repository, frozenset()), "routing.yaml")
    return Catalog(repository, resolved.routing, resolved.configured)
