"""Requests that wait to be counted in a slow store of the fleet are not in flight meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.auth.fleet_rate_limit import attach_fleet_rate_limiter, create_rate_shares
from gateway.auth.rate_limit import Quota, create_rate_counters
from gateway.backends.repository import Repository
from gateway.settings.gateway import LimitsSettings, RateSettings
from gateway.settings.routing import RoutingSettings
from gateway.shm.scoreboard import INFLIGHT, SHED
from gateway.worker.http.access import Access
from gateway.worker.http.app import data_app
from gateway.worker.http.infer import WRITER_KEY
from gateway.worker.reply import Reply
from tests import zoo
from tests.backends.onnx_models import FLOAT, place, save
from tests.deployed import Deployed, served_by

BODY = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]})


class Request:
    """One request to the application, written to where a connection would be."""

    def __init__(self, application: Any, customer: str) -> None:
        self.status = 0
        headers = [(b"x-customer-id", customer.encode()), (b"content-length", b"%d" % len(BODY))]
        scope = {"type": "http", "method": "POST", "path": "/v2/models/same/infer", "query_string": b""}
        self.task = asyncio.ensure_future(
            application(scope | {"headers": headers, WRITER_KEY: self}, self._receive, self._send)
        )

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            await self.task
        return self.status

    async def drain(self) -> None:
        return None

    def write(self, reply: Reply, *, at_once: bool) -> None:
        self.status = 200

    async def _receive(self) -> Any:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def _send(self, message: Any) -> None:
        self.status = message.get("status", self.status)


class Bench:
    """An application with one place, whose customer `slow` the store counts. `asked`: it is being asked."""

    def __init__(self, folder: Path, deployed: Deployed) -> None:
        rates, board = RateSettings.model_validate({"customers": {"slow": "1/s"}}), folder / "board"
        self._book = create_rate_counters(rates, board, 1)
        shares = create_rate_shares(rates, board, 1)
        assert shares is not None
        shares.put(np.array([-1 - 7]))
        self.pipeline = deployed.pipeline
        limiter = attach_fleet_rate_limiter(rates, board, 1, 0, self.pipeline.head)
        self.asked, self._answer = asyncio.Event(), asyncio.Event()
        access = Access(None, limiter, lambda: 5_000_000_000_000, self._count)
        self._application = data_app(self.pipeline, 1 << 20, deployed.pipeline.catalog, access)  # type: ignore[arg-type]

    def send(self, customer: str) -> Request:
        return Request(self._application, customer)

    async def waiting(self) -> Request:
        """A request of `slow` that the store has not answered yet."""
        self.asked.clear()
        self._answer.clear()
        request = self.send("slow")
        async with asyncio.timeout(30):
            await self.asked.wait()
        return request

    async def answered(self, request: Request) -> int:
        self._answer.set()
        return await request.ended()

    async def _count(self, _: Quota) -> int:
        self.asked.set()
        await self._answer.wait()
        return 0


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    def make(path: Path) -> Path:
        node = zoo.helper.make_node("Identity", ["x"], ["y"])
        return save(path, [node], {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])})

    place(folder / "models", "same", 1, make)
    catalog = served_by(Repository(folder / "models"), RoutingSettings())
    await catalog.start()
    yield Bench(folder, Deployed(catalog, limits=LimitsSettings(inflight=1)))
    await catalog.close()


def test_request_that_waits_for_the_store_takes_no_place(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as there:
            first, second = await there.waiting(), there.send("other")
            assert await second.ended() == 200
            assert await there.answered(first) == 200
            assert (there.pipeline.inflight, there.pipeline.head[INFLIGHT]) == (0, 0)

    asyncio.run(run())


def test_request_that_finds_no_place_after_its_wait_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as there:
            request = await there.waiting()
            there.pipeline.admit()
            assert await there.answered(request) == 503
            assert (there.pipeline.inflight, there.pipeline.head[SHED]) == (1, 1)
            there.pipeline.release()

    asyncio.run(run())


def test_no_more_wait_than_may_be_in_flight(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as there:
            first, second = await there.waiting(), there.send("slow")
            assert await second.ended() == 503
            assert (there.pipeline.inflight, there.pipeline.head[SHED]) == (0, 1)
            assert await there.answered(first) == 200
            assert await there.answered(await there.waiting()) == 200
            assert (there.pipeline.inflight, there.pipeline.head[INFLIGHT]) == (0, 0)

    asyncio.run(run())


def test_request_that_is_given_up_while_it_waits_leaves_the_count_as_it_was(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as there:
            request = await there.waiting()
            request.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request.task
            assert there.pipeline.inflight == 0
            assert await there.answered(await there.waiting()) == 200

    asyncio.run(run())
