"""An upload is refused before any of it is read, unless its sender may operate the gateway."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.auth.keyfile import add_key
from gateway.auth.keyring import Keyring
from gateway.control.api.access import UPLOAD_TYPE, ControlAuthMiddleware, MetricsPortMiddleware
from gateway.settings import keys

PATH = "/api/releases/digits/propose"
TAR = {b"content-type": UPLOAD_TYPE.encode(), b"content-length": b"9"}


def status(headers: dict[bytes, bytes], keyring: Keyring | None = None, path: str = PATH) -> int:
    """The status of the answer to an upload; 200 if it reaches the application."""
    sent: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        raise AssertionError("it is read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": list(headers.items())}
    asyncio.run(ControlAuthMiddleware(application, keyring)(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("scope", "expected"), [(keys.Scope.OPERATE, 200), (keys.Scope.READ, 403), (keys.Scope.PREDICT, 403), (None, 401)]
)
def test_only_an_operator_may_propose(tmp_path: Path, scope: keys.Scope | None, expected: int) -> None:
    key, _ = add_key(tmp_path / "keys.yaml", "acme", (scope or keys.Scope.OPERATE,), datetime.now(UTC), None)
    headers = TAR if scope is None else TAR | {b"authorization": b"Bearer " + key.encode()}
    assert status(headers, Keyring(tmp_path / "keys.yaml")) == expected


@pytest.mark.parametrize(
    ("headers", "path", "expected"),
    [
        (TAR | {b"host": b"localhost:1"}, PATH, 200),
        (TAR | {b"host": b"gateway.example"}, PATH, 400),
        (TAR | {b"host": b"localhost", b"sec-fetch-site": b"cross-site"}, PATH, 403),
        (TAR | {b"host": b"localhost", b"content-type": b"multipart/form-data"}, PATH, 415),
        (TAR | {b"host": b"localhost"}, "/api/releases/digits/stop", 415),
    ],
)
def test_no_web_page_may_propose(headers: dict[bytes, bytes], path: str, expected: int) -> None:
    assert status(headers, path=path) == expected


@pytest.mark.parametrize(
    ("port", "method", "path", "expected"),
    [
        (8082, "GET", "/metrics", 200),
        (8082, "POST", "/metrics", 404),
        (8082, "GET", "/api/releases", 404),
        (8002, "GET", "/api/releases", 200),
    ],
)
def test_the_metrics_port_has_metrics_alone(port: int, method: str, path: str, expected: int) -> None:
    sent: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        raise AssertionError("it is read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "server": ("10.0.0.7", port), "headers": []}
    asyncio.run(MetricsPortMiddleware(application, 8082)(scope, receive, send))
    assert sent[0]["status"] == expected
