"""However many clients read the control plane, orders are not delayed, and no answer is older than its request."""

import asyncio
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.control.api import page_renderer, reader_queue
from gateway.control.api.reader_queue import SLOT_BYTES, ReaderQueue, SlotQueue
from gateway.control.api.shared_results import SharedResult
from gateway.control.command_priority import CommandPriority
from tests.processes.flawed import gateway, metric, send_command, until
from tests.running import GatewayProcess

READERS = 24


def call_queue(application: ReaderQueue, method: str = "GET", path: str = "/") -> Any:
    """The messages of the application's answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("there is no body")

    async def ask() -> list[Any]:
        await application({"type": "http", "method": method, "path": path}, receive, send)
        return sent

    return ask()


def test_requests_during_a_build_share_the_next_result() -> None:
    async def read() -> None:
        made = 0
        going = asyncio.Event()

        async def make() -> int:
            nonlocal made
            made += 1
            number = made
            await going.wait()
            return number

        fresh = SharedResult(make)
        first = asyncio.create_task(fresh.get())
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(fresh.get()) for _ in range(50)]
        await asyncio.sleep(0.01)
        assert made == 1
        going.set()
        assert await first == 1
        assert set(await asyncio.gather(*later)) == {2}

    asyncio.run(read())


def test_failed_build_fails_all_waiting_and_the_next_request_builds_again() -> None:
    async def read() -> None:
        results: list[Any] = [ValueError("no"), 1]

        async def make() -> int:
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            return int(result)

        fresh = SharedResult(make)
        first = await asyncio.gather(fresh.get(), fresh.get(), return_exceptions=True)
        assert [str(error) for error in first] == ["no", "no"]
        assert await fresh.get() == 1

    asyncio.run(read())


@pytest.mark.parametrize("size", [0, 1, SLOT_BYTES - 1, SLOT_BYTES, SLOT_BYTES + 1, 2 * SLOT_BYTES, 3 * SLOT_BYTES + 7])
def test_large_answer_is_sent_in_parts_and_complete(size: int) -> None:
    content = os.urandom(size)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})

    _, *parts = asyncio.run(call_queue(ReaderQueue(application, SlotQueue(), CommandPriority())))
    assert b"".join(part["body"] for part in parts) == content
    assert all(len(part["body"]) <= SLOT_BYTES for part in parts)
    assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]


def test_orders_do_not_queue_and_excess_readers_are_refused_after_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_queue, "MAX_READERS", 2)
    monkeypatch.setattr(reader_queue, "REFUSAL_DELAY_S", 0.02)

    async def ask() -> None:
        over = asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            if scope["method"] == "GET":
                await over.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        one_by_one = ReaderQueue(application, SlotQueue(), CommandPriority())
        readers = [asyncio.create_task(call_queue(one_by_one)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert (await call_queue(one_by_one))[0]["status"] == 503
        assert (await call_queue(one_by_one, "POST", "/api/releases/m/stop"))[0]["status"] == 200
        over.set()
        assert [(await reader)[0]["status"] for reader in readers] == [200, 200]
        assert (await call_queue(one_by_one))[0]["status"] == 200

    asyncio.run(ask())


@pytest.mark.parametrize(("path", "pauses"), [("/api/releases/m/stop", True), ("/api/registry/hint", False)])
def test_an_order_pauses_other_work_and_a_delivery_that_anyone_may_send_slowly_does_not(
    path: str, pauses: bool
) -> None:
    async def ask() -> bool:
        priority, found = CommandPriority(), []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            work = asyncio.create_task(priority.yield_to_commands())
            for _ in range(3):
                await asyncio.sleep(0)
            found.append(not work.done())
            await work

        await call_queue(ReaderQueue(application, SlotQueue(), priority), "POST", path)
        return bool(found[0])

    assert asyncio.run(ask()) is pauses


def printers(running: GatewayProcess) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ours = f"PPid:\t{running.pid}\n" in (folder / "status").read_text()
            if ours and page_renderer.PROCESS_CODE.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_metrics_are_rendered_by_a_new_process_after_the_last_was_killed(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        assert metric(running, "gateway_workers", state="ready") == 2
        (before,) = printers(running)
        os.kill(before, signal.SIGKILL)
        assert metric(running, "gateway_workers", state="ready") == 2
        (after,) = printers(running)
        assert after != before
        assert metric(running, "process_resident_memory_bytes") > 10e6, "control's own, not the printer's"
        running.stop()
        until(lambda: not Path(f"/proc/{after}/exe").exists(), "it ends with control")


@pytest.mark.slow
def test_continuous_readers_do_not_delay_a_stop(tmp_path: Path) -> None:
    over = threading.Event()
    read: list[int] = []

    def ask(running: GatewayProcess, path: str) -> None:
        with httpx.Client(base_url=running.control_url, timeout=60) as client:
            while not over.is_set():
                read.append(client.get(path).status_code)

    with gateway(tmp_path) as running:
        paths = ("/metrics", "/api/releases", "/api/config", "/api/decisions", "/", "/health")
        readers = [threading.Thread(target=ask, args=(running, paths[n % len(paths)])) for n in range(READERS)]
        for reader in readers:
            reader.start()
        took_s = []
        try:
            for _ in range(20):
                began_s = time.monotonic()
                assert send_command(running, "stop").status_code == 200
                took_s.append(time.monotonic() - began_s)
                assert send_command(running, "resume").status_code == 200
        finally:
            over.set()
            for reader in readers:
                reader.join()
    assert set(read) == {200}
    assert sorted(took_s)[10] < 1.0, "a median on a machine that the readers keep busy themselves"
