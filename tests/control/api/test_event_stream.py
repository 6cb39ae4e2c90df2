"""Server-sent events arrive when something happens, end when the gateway does, and no slow reader delays it."""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.control.api.event_stream import MAX_CLIENTS, MAX_QUEUED, SHUTTING_DOWN, TOO_SLOW, Client, message
from tests.processes.flawed import body, gateway, send_command, until
from tests.processes.test_reload import edit, routing
from tests.running import GatewayProcess

Event = tuple[str, Any]
AT_ONCE_S = 0.5
TURNS = 5  # of which the best counts: what a busy machine adds to the others is not the gateway's doing


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway(tmp_path_factory.mktemp("events")) as started:
        yield started


def events(response: httpx.Response) -> Iterator[Event]:
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, orjson.loads(line.removeprefix("data: "))


def stream(running: GatewayProcess) -> Any:
    return httpx.stream("GET", f"{running.control_url}/api/events", timeout=10)


def first(told: Iterator[Event], *names: str) -> Event:
    return next(event for event in told if event[0] in names)


def test_stop_is_sent_at_once(running: GatewayProcess) -> None:
    with stream(running) as response:
        told = events(response)
        name, snapshot = next(told)
        assert (name, snapshot["releases"][0]["model"], snapshot["config"]["workers"]) == ("snapshot", "flawed", 2)
        took_s: list[float] = []
        while len(took_s) < TURNS and min(took_s, default=math.inf) > AT_ONCE_S:
            send_command(running, "stop")
            answered = time.monotonic()
            _, decision = first(told, "decision")
            assert (decision["action"], decision["reason"]) == ("stop", "a test")
            next(data for name, data in told if name == "live" and any(one["stopped"] for one in data["releases"]))
            took_s.append(time.monotonic() - answered)
            send_command(running, "resume")
            assert first(told, "decision")[1]["action"] == "resume"
        assert min(took_s) < AT_ONCE_S, took_s


def test_live_figures_are_sent_when_they_change(running: GatewayProcess) -> None:
    with stream(running) as response:
        told = events(response)
        next(told)
        next(data for name, data in told if name == "live" and not data["releases"])  # nothing changes any more
        httpx.post(f"{running.url}/v2/models/flawed/infer", content=body(1.0)).raise_for_status()
        (release,) = next(data["releases"] for name, data in told if name == "live" and data["releases"])
        assert sum(version["requests"] for version in release["versions"]) > 0
        assert any(version["latency_p99_ms"] for version in release["versions"])


def test_config_error_and_its_fix_are_sent(running: GatewayProcess) -> None:
    with stream(running) as response:
        told = events(response)
        next(told)
        edit(running, routing(weight=101))
        next(data for name, data in told if name == "config" and "weight" in (data["last_error"] or ""))
        edit(running, routing(weight=49))
        mended = next(data for name, data in told if name == "config" and data["last_error"] is None)
        assert mended["generation"] == 2


def test_excess_client_is_refused_until_another_leaves(running: GatewayProcess) -> None:
    with ExitStack() as stack:
        followed = [events(stack.enter_context(stream(running))) for _ in range(MAX_CLIENTS)]
        assert {next(told)[0] for told in followed} == {"snapshot"}
        with stream(running) as refused:
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")

    def is_free() -> bool:
        with stream(running) as response:
            return bool(response.status_code == 200)

    until(is_free, "a place is free")


def test_shutdown_ends_the_stream_without_delay(tmp_path: Path) -> None:
    with gateway(tmp_path) as running, stream(running) as response:
        told = events(response)
        next(told)
        running.terminate()
        assert first(told, "end")[1] == {"reason": SHUTTING_DOWN}
        assert next(told, None) is None
    assert "Traceback" not in running.log


def test_slow_reader_is_disconnected() -> None:
    async def read() -> list[bytes]:
        client = Client()
        one = message("live", {})
        taken = 0
        while client.send(one):
            taken += 1
        assert taken < MAX_QUEUED
        assert not client.send(one)
        return [told async for told in client.messages()]

    told = asyncio.run(read())
    assert told[-1].endswith(message("end", {"reason": TOO_SLOW}))


def test_messages_that_wait_are_sent_together() -> None:
    """Else a stream that gives way to commands between two messages is too slow for a burst of decisions."""

    async def read() -> list[bytes]:
        client = Client()
        stream = client.messages()
        client.send(b"a")
        read = [await anext(stream)]
        client.send(b"b", b"c")
        client.send(b"d")
        return [*read, await anext(stream)]

    assert asyncio.run(read()) == [b"a", b"bcd"]
