"""Connections that the worker closes for balance: with a successful answer, never when another request has begun."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from gateway.backends.repository import Repository
from gateway.settings.routing import RoutingSettings
from gateway.worker.http.access import Access
from gateway.worker.http.app import data_app
from gateway.worker.http.connection import InferConnection
from tests.backends import onnx_models
from tests.deployed import Deployed, served_by
from tests.running import GatewayProcess
from tests.wire import Wire, doubled, get, looping_models, post, turns

TOO_LARGE_FOR_THE_SHORT_WAY = 100_000
AGE_S = 1


class Going(InferConnection):
    """Every connection is marked for closing from its first request on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.close_after_response = True


class Server:
    """A data plane in a thread of this process; has a port, as `Wire` needs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = looping_models(folder, "loop")
        self._bound = socket.create_server(("127.0.0.1", 0))
        self.port = self._bound.getsockname()[1]
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _serve(self) -> None:
        deployment = served_by(Repository(self._folder), RoutingSettings())
        await deployment.start()
        app = data_app(Deployed(deployment).pipeline, 1 << 20, deployment, Access())
        plain: dict[str, Any] = {"proxy_headers": False, "lifespan": "off", "ws": "none", "log_config": None}
        self._server = uvicorn.Server(uvicorn.Config(app, http=Going, interface="asgi3", date_header=False, **plain))
        await self._server.serve(sockets=[self._bound])
        await deployment.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("models")) as started:
        yield started


@pytest.mark.parametrize(
    "request_",
    [
        doubled(),
        doubled(pad=TOO_LARGE_FOR_THE_SHORT_WAY),
        post("loop", turns(1)),
        get("/v2/health/live"),
        get("/v2/models/doubling"),
        doubled(version="1.0"),
    ],
    ids=["short", "long", "batched", "get", "metadata", "1.0"],
)
def test_successful_answer_closes_the_connection(server: Server, request_: bytes) -> None:
    with Wire(server) as wire:  # type: ignore[arg-type]
        answer = wire.send(request_).read()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.ended()


def test_request_in_pieces_is_answered_before_the_connection_closes(server: Server) -> None:
    with Wire(server) as wire:  # type: ignore[arg-type]
        request = doubled()
        for begin in range(0, len(request), 7):
            wire.send(request[begin : begin + 7])
        assert wire.read().headers["connection"] == "close"
        assert wire.ended()


@pytest.mark.parametrize("request_", [post("doubling", b"{"), get("/v2/models/none")], ids=["bad", "unknown"])
def test_error_answer_does_not_close_the_connection(server: Server, request_: bytes) -> None:
    with Wire(server) as wire:  # type: ignore[arg-type]
        for _ in range(3):
            answer = wire.send(request_).read()
            assert answer.status >= 400
            assert "connection" not in answer.headers
        assert wire.send(doubled()).read().headers["connection"] == "close"


@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("kind", ["short", "batched", "mixed"])
def test_pipelined_requests_are_all_answered_before_closing(server: Server, kind: str, count: int) -> None:
    kinds = {"short": [doubled()], "batched": [post("loop", turns(1))], "mixed": [doubled(), get("/v2/health/live")]}
    requests = [kinds[kind][index % len(kinds[kind])] for index in range(count)]
    with Wire(server) as wire:  # type: ignore[arg-type]
        wire.send(b"".join(requests))
        answers = [wire.read() for _ in requests]
        assert [answer.status for answer in answers] == [200] * count
        assert ["connection" in answer.headers for answer in answers] == [False] * (count - 1) + [True]
        assert wire.ended()


@pytest.mark.parametrize("part", [1, 10, -1])
def test_start_of_another_request_keeps_the_connection_open(server: Server, part: int) -> None:
    following = doubled(1)
    with Wire(server) as wire:  # type: ignore[arg-type]
        wire.send(doubled(0) + following[:part])
        assert "connection" not in wire.read().headers
        answer = wire.send(following[part:]).read()
        assert (answer.status, answer.document["id"]) == (200, "1")


@pytest.mark.slow
def test_old_connections_close_with_an_answer_and_one_at_a_time(tmp_path: Path) -> None:
    onnx_models.doubling(tmp_path / "models" / "doubling" / "1" / "model.onnx")
    server = {"max_connection_age": f"{AGE_S}s"}
    with GatewayProcess(tmp_path, tmp_path / "models", server=server) as running:
        ages = []
        for _ in range(3):
            with Wire(running) as wire:
                began_s = time.monotonic()
                while "connection" not in wire.send(doubled()).read().headers:
                    assert time.monotonic() - began_s < 10
                    time.sleep(0.02)
                ages.append(time.monotonic() - began_s)
                assert wire.ended()
        assert min(ages) >= 0.9 * AGE_S
        document = json.dumps(ages)
        assert max(ages) < 5, document
