"""A delivery of MLflow's webhook needs its signature, no API key, and a small body; else it says no more than that."""

import asyncio
import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import Message

from gateway.auth.keyfile import add_key
from gateway.auth.keyring import Keyring
from gateway.control.api.access import SIGNED_PATH, ControlAuthMiddleware
from gateway.control.api.registry_hint import MAX_BODY_BYTES, RegistryHint
from gateway.control.registry.webhook import Webhook
from gateway.settings import keys
from gateway.web.exception_handlers import exception_handlers

SECRET = "fake-secret-of-a-webhook"


async def not_routed(request: object, error: Exception) -> None:
    raise error


def signed(body: bytes, now_s: float | None = None) -> dict[bytes, bytes]:
    at = str(int(time.time() if now_s is None else now_s)).encode()
    digest = hmac.digest(SECRET.encode(), b"an-id." + at + b"." + body, hashlib.sha256)
    signature = b"v1," + base64.b64encode(digest)
    return {b"x-mlflow-delivery-id": b"an-id", b"x-mlflow-timestamp": at, b"x-mlflow-signature": signature}


class Plane:
    """The control plane's endpoint behind its access control. `hints`: taken so far."""

    def __init__(self, *, secret: str = SECRET, keyring: Keyring | None = None) -> None:
        self.hints = 0
        webhook = Webhook(secret, self._hint) if secret else None
        self._application = Starlette(
            routes=[endpoint.route() for endpoint in RegistryHint(webhook).endpoints()],
            exception_handlers=exception_handlers(not_routed),  # type: ignore[arg-type]
            middleware=[Middleware(ControlAuthMiddleware, keyring)],
        )

    def _hint(self) -> None:
        self.hints += 1

    def post(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[int, bytes]:
        """From another machine, with any name for this one."""
        sent: list[Message] = []
        arriving = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]

        async def receive() -> Message:
            return arriving.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        named = {b"host": b"gateway.example", b"content-length": str(len(body)).encode(), **headers}
        scope = {
            "type": "http", "method": "POST", "path": SIGNED_PATH, "query_string": b"", "headers": list(named.items())
        }  # fmt: skip
        asyncio.run(self._application(scope, receive, send))
        return int(sent[0]["status"]), b"".join(one.get("body", b"") for one in sent)


@pytest.fixture(name="keyring")
def _keyring(tmp_path: Path) -> Keyring:
    add_key(tmp_path / "keys.yaml", "acme", (keys.Scope.OPERATE,), datetime.now(UTC), None)
    return Keyring(tmp_path / "keys.yaml")


def test_a_signed_delivery_is_a_hint_with_and_without_keys(keyring: Keyring) -> None:
    for plane in (Plane(), Plane(keyring=keyring)):
        assert plane.post(b"{}", signed(b"{}")) == (202, b"")
        assert plane.post(b"no JSON \xff", signed(b"no JSON \xff")) == (202, b"")  # nothing in it is read
        assert plane.hints == 2


def test_any_other_delivery_is_none(keyring: Keyring) -> None:
    plane = Plane(keyring=keyring)
    refused = (401, b'{"error":"the delivery is not signed with the webhook\'s secret"}')
    assert plane.post(b"{}", {}) == plane.post(b"{ }", signed(b"{}")) == refused
    status, said = plane.post(b"{}", signed(b"{}", time.time() - 400))
    assert (status, b"set the clocks" in said) == (400, True)
    large = bytes(MAX_BODY_BYTES + 1)
    assert plane.post(large, signed(large))[0] == 413
    assert plane.hints == 0


def test_without_the_setting_the_answer_says_what_to_set() -> None:
    status, said = Plane(secret="").post(b"{}", signed(b"{}"))
    assert (status, b"set registry.mlflow.webhook_secret" in said) == (404, True)
