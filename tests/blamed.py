"""An in-process gateway whose two versions fail depending on the input, and the outcome of each request."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.backends.repository import Repository
from gateway.errors import RequestError
from gateway.protocol.decode import decode_request
from gateway.routing.attributes import Attributes
from gateway.settings.routing import RoutingSettings
from gateway.shm.failure_events import SIZE, FailureEvent, unpack_all
from gateway.shm.ring import Ring
from gateway.worker.call import Call, RequestSource
from gateway.worker.pipeline import Pipeline
from loadtests import moody
from loadtests.moody import Moods
from tests.deployed import Catalog, Deployed

Make = Callable[[Path], None]
TWIN = Moods()


class Trips:
    """A switchboard for one process that records who tripped it."""

    epoch = 1
    slot = 0

    def __init__(self) -> None:
        self.tripped = False

    def stopped(self, now_ns: int) -> bool:
        return self.tripped

    def trip(self, epoch: int, found: str = "") -> None:
        self.tripped = epoch == self.epoch


class Bench:
    """One release; `ask` gives what the client gets: the version that answered and the numbers, or the error."""

    def __init__(self, gateway: Pipeline, events: Ring) -> None:
        self.gateway = gateway
        self.served = gateway.served(moody.NAME)
        self.switch = Trips()
        self.served.switch = self.switch  # type: ignore[assignment]
        self._events = events

    @property
    def candidate(self) -> dict[str, int]:
        """The outcomes of the candidate's requests."""
        outcomes = self.served.versions[2].tally.read().outcomes("candidate")
        return {str(outcome): count for outcome, count in outcomes.items() if count}

    def set_pace(self, p99_ns: int) -> None:
        """Set the known latency of stable from now on."""
        budget = self.served.time_budget
        self.served.stable.recent_latency.p99_ns = p99_ns
        budget.expires_ns, budget.request_timeout_ns = 2**63, 0

    def events(self) -> list[FailureEvent]:
        """The failure events since the last call."""
        packed = bytes(self._events.pending(1 << 16))
        self._events.release(len(packed))
        assert len(packed) % SIZE == 0
        return [event for event in unpack_all(packed) if event.kind == "failure"]

    def begin(self, body: bytes, key: str | None = None) -> Call:
        attributes = Attributes(key)
        return self.gateway.begin(self.served, None, decode_request(body), attributes, RequestSource(body))

    async def ask(self, *rows: list[float], timeout_us: int | None = None, variant: str | None = None) -> Any:
        """Send a request; with `variant`, one that is drawn for that variant."""
        body = moody.body(*rows, timeout_us=timeout_us)
        call = self.begin(body)
        while variant is not None and call.decision.variant != variant:
            call = self.begin(body)
        return await self.end(call)

    async def end(self, call: Call) -> Any:
        gateway = self.gateway
        submitted: Any = gateway.submit(call)
        while submitted is not None:
            await asyncio.wait((submitted,))
            rescue = gateway.rescue(call, submitted)
            if rescue is None:
                try:
                    return gateway.end(call, submitted)
                except RequestError as error:
                    return error
            submitted = rescue


def routing(weight: float = 50, **more: Any) -> RoutingSettings:
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": weight}]}
    guards = {"comparisons": [{"name": "errors", "metric": "failures"}]}
    return RoutingSettings.model_validate(
        {"models": {moody.NAME: {"stable": 1, "candidate": 2, "split": split, "guards": guards, **more}}}
    )


@asynccontextmanager
async def serving(folder: Path, make: Make, rules: RoutingSettings) -> AsyncIterator[Bench]:
    make(folder / "models")
    deployment = Catalog(Repository(folder / "models"), rules)
    await deployment.start()
    deployed = Deployed(deployment)
    try:
        yield Bench(deployed.pipeline, deployed.rings.events)
    finally:
        await deployment.close()


def twins(repository: Path) -> None:
    moody.place(repository, TWIN, TWIN)


def flawed(repository: Path) -> None:
    """The candidate answers NaN where luck is below 0.5, and hangs where it is below 0.1."""
    moody.place(repository, TWIN, Moods(fails=0.5, hangs=0.1))


def on_loop(
    folder: Path,
    test: Callable[[Bench], Coroutine[Any, Any, None]],
    make: Make = twins,
    rules: RoutingSettings | None = None,
) -> None:
    async def run() -> None:
        async with serving(folder, make, rules or routing()) as bench:
            await test(bench)

    asyncio.run(run())
