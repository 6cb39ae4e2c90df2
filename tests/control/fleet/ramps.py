"""Hosts of a fleet in one process that ramp one release together: real managers, boards, rings and a real store."""

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson

from gateway.control.fleet import membership
from gateway.control.fleet.evidence import Digest
from gateway.control.fleet.shared_release import SharedRelease
from gateway.control.fleet.shared_releases import SharedReleases
from gateway.control.guards.comparisons import Guards
from gateway.control.guards.window import Reading
from gateway.control.record_writer.collector import RecordCollector
from gateway.control.release.decisions import ReleaseDecision
from gateway.control.release.manager import ReleaseManager
from gateway.errors import Outcome
from gateway.records.line import line_of
from gateway.records.token import encoded_names
from gateway.records.token_keys import token_keys
from gateway.routing.release import Decision as Drawn
from gateway.routing.release import Variant
from gateway.settings.gateway import RecordsSettings
from gateway.settings.routing import ReleaseSettings
from gateway.shm.boards import Boards
from gateway.shm.failure_events import NO_ROUTE, FailureEvent, FailureKind
from gateway.shm.ring import Ring
from gateway.shm.scoreboard import VERSIONS, Scoreboard
from gateway.shm.slots import Slots
from gateway.shm.switchboard import RELEASES
from gateway.shm.tally import Tally
from tests.control.fleet.hosts import Fleet, Host
from tests.control.fleet.servers import RedisServer, StoreServer

MODEL = "m"
ROUTES = [{"name": "everyone", "weight": "ramp"}]
RAMP = {"weights": [1, 10, 50, 100], "interval": "60s", "advance": "no-violation"}
ERRORS = {"name": "errors", "metric": "failures"}
STEP_S = 5.0  # of the fleet's clock, between two exchanges: a sixth of the lease


def release(routes: list[dict[str, Any]] = ROUTES, **more: Any) -> ReleaseSettings:
    guards = {"comparisons": [ERRORS], **more.pop("guards", {})}
    document = {"stable": 1, "candidate": 2, "split": {"routes": routes}, "ramp": RAMP, "guards": guards, **more}
    return ReleaseSettings.model_validate(document)


class RampHost(Host):
    """A host whose manager hands its releases to the fleet."""

    def __init__(self, fleet: "Ramping", folder: Path, name: str, served: dict[str, ReleaseSettings]) -> None:
        self.releases = Slots(RELEASES, "releases")
        self.versions = Slots(VERSIONS, "versions")
        super().__init__(fleet, folder, name, served)
        self.scoreboard = Scoreboard.create(folder / f"scores{time.monotonic_ns()}", 1)
        self.records = RecordCollector(
            RecordsSettings(), folder, f"test-{time.monotonic_ns()}", 1, self.log.replace_file
        )
        self.events = Ring.attach(self.records.rings[0].events)
        boards = Boards(self.board, self.scoreboard, self.versions, self.releases)
        clock = fleet.clock
        self.manager = ReleaseManager(
            folder, boards, self.records, self.log, self.stop_here, lambda: clock.now_ns() / 1e9
        )
        self.ramps = SharedReleases(self.membership, self.manager, self.wire.document)
        self.membership.ramps = self.ramps
        self.manager.configure(served)

    def slot(self, release: str) -> int:
        model, _, version = release.rpartition("/")
        return self.releases.of(model, int(version))

    def resume_here(self, model: str, version: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        self.manager.close_routes(model)
        return super().resume_here(model, version, by, reason, evidence)

    @property
    def shared(self) -> SharedRelease:
        return self.ramps.releases[MODEL]

    @property
    def digest(self) -> Digest:
        assert self.shared.digest is not None
        return self.shared.digest

    @property
    def leads(self) -> bool:
        return self.shared.leads

    @property
    def weight(self) -> int:
        """Of the first live route, in percent."""
        return self.manager.weights_ppm(MODEL)["everyone"] // 10_000

    @property
    def step(self) -> int:
        """Of the controller that this host has."""
        return self.manager.managed[MODEL].controller.state.step

    @property
    def guards(self) -> Guards:
        return self.manager.managed[MODEL].controller.guards

    def done(self, *actions: str) -> list[str]:
        """The decisions of these kinds."""
        return [one.action for one in self.log.decisions if one.action in actions]

    def serve(self, settings: ReleaseSettings) -> None:
        """An edit of the routing file."""
        self.served = {MODEL: settings}
        self.manager.configure(self.served)

    def tally(self, version: int) -> Tally:
        return self.scoreboard.tally(0, self.versions.of(MODEL, version))

    def answer(self, candidate: int = 1, stable: int = 1, ms: float = 1.0) -> None:
        for _ in range(candidate):
            self.tally(2).success("candidate", round(ms * 1e6), 0)
        for _ in range(stable):
            self.tally(1).success("stable", round(ms * 1e6), 0)

    def failed_request(self) -> None:
        """As the counters have it, without a failure event."""
        self.tally(2).failure("candidate", Outcome.MODEL_ERROR, 1_000_000)

    def read(self, metric: str, window_s: float) -> Reading:
        return self.manager.managed[MODEL].window.read(metric, window_s)

    @property
    def sums(self) -> int:
        """The fleet's successful requests to the candidate."""
        totals = self.shared._sums.candidate
        assert totals is not None
        return totals.outcomes("candidate")[Outcome.OK]

    def fail(
        self,
        count: int = 1,
        key: int | None = None,
        *,
        candidate: bool = True,
        weight_ppm: int = 50_000,
        route: int = NO_ROUTE,
    ) -> None:
        slot = self.slot(f"{MODEL}/2")
        epoch = self.board.epoch(slot)
        event = FailureEvent(time.time_ns(), slot, epoch, weight_ppm, candidate, FailureKind.FAILURE, key, route)
        for _ in range(count):
            assert self.events.append(event.pack())

    def token(self, nonce: int, *, candidate: bool = True, weight_ppm: int = 100_000) -> str:
        variant = Variant.CANDIDATE if candidate else Variant.STABLE
        drawn = Drawn(2 if candidate else 1, variant, "everyone", None, weight_ppm, 0.5)
        return token_keys(self.folder).signer().token(encoded_names(MODEL, "everyone"), drawn, nonce, 3, False).decode()

    def judge(self, token: str, correct: bool) -> None:
        """Feedback with a truth."""
        record = {"time_ns": time.time_ns(), "prediction_id": token, "truth": 1, "correct": correct, "truth_class": 1}
        self.records.feedback.add(line_of(record))

    def tell(self, token: str, **metrics: float) -> None:
        """Feedback with business metrics."""
        self.records.feedback.add(line_of({"time_ns": time.time_ns(), "prediction_id": token, "metrics": metrics}))

    async def exchange(self) -> None:
        """What control does in a tick, and one exchange."""
        for _ in self.manager.steps():
            pass
        await self.ramps.exchange_all()

    async def restarted(self) -> "RampHost":
        await self.end()
        assert isinstance(self.fleet, Ramping)
        new = RampHost(self.fleet, self.folder, self.name, self.served)
        self.fleet.replace(self, new)
        return new

    async def end(self) -> None:
        await self.pause()
        if self.wire.ended:
            return
        self.wire.ended = True
        await self.wire.close()
        self.manager.close()
        self.records.stop()
        self.log.close()
        self.scoreboard.segment.remove()
        self.board.segment.remove()


class Ramping(Fleet):
    """A fleet whose hosts all serve release `m`. Hosts in `silent` are as if killed: they neither beat nor exchange."""

    def __init__(self, server: StoreServer, folder: Path) -> None:
        super().__init__(server, folder)
        self.silent: set[str] = set()

    def ramp(self, name: str, settings: ReleaseSettings | None = None) -> RampHost:
        """Add a host that knows the fleet."""
        folder = self.folder / f"{self.name} {name}"
        folder.mkdir()
        seen = {"fleet": self.name, "words": {"known/1": [1, 0]}, "stops": [], "sequence": 0}
        (folder / "fleet.json").write_bytes(orjson.dumps(seen))
        if self.hosts:  # the key of prediction ids is the fleet's
            shutil.copy(self.hosts[0].folder / "token-keys.json", folder)
        host = RampHost(self, folder, name, {MODEL: settings or release()})
        self.hosts.append(host)
        return host

    @property
    def present(self) -> list[RampHost]:
        return [host for host in self.hosts if isinstance(host, RampHost) and host.name not in self.silent]

    @property
    def leaders(self) -> list[str]:
        """Hosts that take themselves for the leader."""
        return [host.name for host in self.present if host.leads]

    def wipe_release(self) -> None:
        """Delete what the store holds of the release."""
        assert isinstance(self.server, RedisServer)
        for part in ("core", "members"):
            self.server.send("DEL", f"{{gateway:{self.name}}}:document:release:{MODEL}:{part}")

    def wipe(self) -> None:
        super().wipe()
        self.wipe_release()

    async def run(self, seconds: float, *, traffic: bool = True) -> None:
        """Let time pass, with beats and exchanges of all that are present."""
        await self.ticks(round(seconds / STEP_S), traffic=traffic)

    async def ticks(self, count: int, *, traffic: bool = True) -> None:
        """So many beats and exchanges of each."""
        for _ in range(count):
            self.clock.advance(int(STEP_S * 1e9))
            for host in self.present:
                if traffic:
                    host.answer()
                await host.beat()
            for host in self.present:
                await host.exchange()

    async def ramping(self) -> None:
        """Open all, until the ramp's first weight is in force everywhere."""
        await self.open()
        await self.ticks(3)
        assert len(self.leaders) == 1, self.leaders
        assert [host.weight for host in self.present] == [1] * len(self.present)


@asynccontextmanager
async def new_ramp(
    server: StoreServer, folder: Path, *names: str, settings: ReleaseSettings | None = None
) -> AsyncIterator[Ramping]:
    """A fleet that ramps from its first weight on. In the end all hosts are ended."""
    fleet = Ramping(server, folder)
    with patch.object(membership, "BEAT_S", 0.01):
        try:
            for name in names:
                fleet.ramp(name, settings)
            if names:
                await fleet.ramping()
            yield fleet
        finally:
            for host in fleet.hosts:
                await host.end()
