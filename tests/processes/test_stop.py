"""A stop reaches every worker at once, outlives the workers, and is undone only by a resume."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests.client import Client, Seen
from tests.processes.flawed import body, gateway, kill, release, requests, send_command, until, workers
from tests.running import GatewayProcess

CYCLES = 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway(tmp_path_factory.mktemp("stop")) as started:
        yield started


def test_no_candidate_answer_is_sent_after_a_stop_has_returned(running: GatewayProcess) -> None:
    before, after = Seen(), Seen()
    with Client(("127.0.0.1", running.port), 16, requests(1.0)) as client:
        for _ in range(CYCLES):
            client.keep_busy(0.02, before)
            client.send()
            assert send_command(running, "stop").status_code == 200
            for answer in client.there():  # sent before the stop had returned
                before.add(answer)
            for answer in client.rest():
                after.add(answer)
            client.keep_busy(0.02, after)
            assert send_command(running, "resume").status_code == 200
    assert before.variants["candidate"] > 0
    assert after.variants["candidate"] == 0
    assert after.variants["stable"] > 0
    assert not before.failures + after.failures


def test_stopped_version_cannot_be_pinned(running: GatewayProcess) -> None:
    pinned = f"{running.url}/v2/models/flawed/versions/2/infer"
    assert httpx.post(pinned, content=body(1.0)).headers["x-variant"] == "pinned"
    send_command(running, "stop")
    refused = httpx.post(pinned, content=body(1.0))
    assert (refused.status_code, "stopped" in refused.json()["error"]) == (409, True)
    assert httpx.post(f"{running.url}/v2/models/flawed/versions/1/infer", content=body(1.0)).status_code == 200
    send_command(running, "resume")


def test_invalid_orders_are_refused_with_the_reason(running: GatewayProcess) -> None:
    answer = send_command(running, "resume")
    assert (answer.status_code, answer.json()["error"]) == (409, "'flawed' is not stopped")
    absent = httpx.post(f"{running.control_url}/api/releases/nothing/stop")
    assert (absent.status_code, "flawed" in absent.json()["error"]) == (404, True)
    stop = f"{running.control_url}/api/releases/flawed/stop"
    assert httpx.post(stop, content=b"{").status_code == 415
    assert httpx.post(stop, content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert httpx.post(stop, json={"reason": "one line\nand a forged one"}).status_code == 400
    assert httpx.post(stop, json={"reason": 1}).status_code == 400
    assert httpx.post(stop, headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.post(stop, headers={"host": "evil.example"}).status_code == 400
    assert not release(running)["stopped"]


def test_repeated_stop_is_reported_and_recorded_once(running: GatewayProcess) -> None:
    first, second = send_command(running, "stop").json(), send_command(running, "stop").json()
    assert first == second
    told = release(running)
    assert (told["stopped"], told["stop"]["reason"], told["stop"]["by"]) == (True, "a test", "local")
    assert told["routes"] == [{"route": "everyone", "weight_percent": 50.0, "in_force_percent": 0}]
    send_command(running, "resume")
    decisions = httpx.get(f"{running.control_url}/api/decisions").json()
    assert [decision["action"] for decision in decisions[:2]] == ["resume", "stop"]
    assert release(running)["epoch"] > 1


def test_stop_survives_a_restart(tmp_path: Path) -> None:
    first = gateway(tmp_path)
    with first:
        send_command(first, "stop")
    second = gateway(tmp_path)
    with second:
        assert release(second)["stop"]["reason"] == "a test"
        seen = Seen()
        with Client(("127.0.0.1", second.port), 4, requests(1.0)) as client:
            client.keep_busy(0.2, seen)
            assert seen.variants["candidate"] == 0
            assert seen.variants["stable"] > 0
            send_command(second, "resume")
            client.keep_busy(0.2, seen)
            assert seen.variants["candidate"] > 0


def test_new_worker_applies_the_stop(running: GatewayProcess) -> None:
    send_command(running, "stop")
    old = workers(running)
    kill(old[0])
    until(lambda: len(set(workers(running)) - set(old)) == 1, "a new worker")
    until(lambda: httpx.get(f"{running.control_url}/api/config").json()["acknowledged"] == 2, "both ready")
    seen = Seen()
    with Client(("127.0.0.1", running.port), 16, requests(1.0)) as client:
        client.keep_busy(0.3, seen)
    assert seen.variants["candidate"] == 0
    send_command(running, "resume")
