"""The wall clock is set while a gateway runs: back an hour, to 1970, or years ahead. No decision depends on it."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.client import Client
from loadtests.clock import WallClock
from loadtests.judged import NAME, Rates
from loadtests.recorded import Told
from tests.processes.flawed import command_of, gateway, metric, release, requests, send_command, until, workers
from tests.processes.recorded import feedback, records
from tests.processes.test_death import gateway_again
from tests.processes.test_guards import Live, live, routing
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

HOUR_S = 3600.0
YEAR_S = 366 * 86400.0
PATIENCE_S = 30.0
ASKED = 40
ACCURACY = {"name": "accuracy", "metric": "wrong_feedback"}
TO_1970_S = -56 * YEAR_S


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock(tmp_path / "clock")
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    return clock


def history(running: GatewayProcess) -> list[dict[str, Any]]:
    """The decisions, newest first."""
    found: list[dict[str, Any]] = httpx.get(f"{running.control_url}/api/decisions").json()
    return found


@pytest.mark.parametrize("seconds", [-HOUR_S, TO_1970_S, 5 * YEAR_S], ids=["an hour back", "1970", "years ahead"])
def test_wrong_candidate_is_stopped_although_the_clock_was_set(
    tmp_path: Path, clock: WallClock, seconds: float
) -> None:
    with live(tmp_path, routing(comparisons=[ACCURACY]), Rates(mistakes=0.6), 0.1) as run:
        clock.set(seconds)  # after the epoch has begun, and before anything is predicted in it
        run.until(lambda: run.release()["stopped"])
        assert run.release()["stop"]["by"] == "accuracy"


def test_evidence_survives_a_restart_with_another_time(tmp_path: Path, clock: WallClock) -> None:
    """Predictions from before the restart are of the same epoch, and so is later feedback on them."""
    clock.set(HOUR_S)
    with live(tmp_path, routing(comparisons=[ACCURACY]), Rates(mistakes=1.0)) as run:
        run.order("stop")
        run.order("resume")
        ids, epoch = predicted(run), run.release()["epoch"]
        running = run.gateway
    clock.set(0)
    with running:
        tell(running, ids)
        until(lambda: evidence(running)["verdict"] != "no-data", "evidence")
        assert release_of(running)["epoch"] == epoch
        order_of(running, "stop")
        order_of(running, "resume")
        assert release_of(running)["epoch"] == epoch + 1


def test_late_feedback_on_an_old_epoch_is_no_evidence(tmp_path: Path, clock: WallClock) -> None:
    """By their times alone, the predictions would be of the epoch after the resume."""
    with live(tmp_path, routing(comparisons=[ACCURACY]), Rates(mistakes=1.0)) as run:
        clock.set(HOUR_S)
        ids = predicted(run)
        clock.set(0)
        run.order("stop")
        run.order("resume")
        tell(run.gateway, ids)
        until(lambda: feedback_count(run.gateway) >= len(ids), "all feedback")
        time.sleep(0.2)  # some ticks
        assert evidence(run.gateway)["verdict"] == "no-data"


def predicted(run: Live) -> list[str]:
    """Predictions without feedback."""
    url, row = f"{run.gateway.url}/v2/models/{NAME}/infer", [9.0, 1.0, 9.0, 9.0]
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}]}
    return [httpx.post(url, json=body).json()["parameters"]["prediction_id"] for _ in range(100)]


def tell(running: GatewayProcess, ids: list[str]) -> None:
    """Send feedback that all of them are wrong."""
    said = [{"prediction_id": one, "truth": 3} for one in ids]
    assert not httpx.post(f"{running.url}/v2/feedback", json=said).raise_for_status().json()["rejected"]


def feedback_count(running: GatewayProcess) -> float:
    return metric(running, "gateway_feedback_total")


def release_of(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/releases/{NAME}").json()


def order_of(running: GatewayProcess, what: str) -> None:
    url = f"{running.control_url}/api/releases/{NAME}/{what}"
    httpx.post(url, json={"reason": "a test"}).raise_for_status()


def evidence(running: GatewayProcess) -> Any:
    (found,) = (guard for guard in release_of(running)["guards"] if guard["name"] == "accuracy")
    return found


@pytest.mark.parametrize("seconds", [-HOUR_S, TO_1970_S, 5 * YEAR_S], ids=["an hour back", "1970", "years ahead"])
def test_resume_is_not_undone_by_a_restart(tmp_path: Path, clock: WallClock, seconds: float) -> None:
    running = gateway(tmp_path)
    with running:
        send_command(running, "stop").raise_for_status()
        clock.set(seconds)
        send_command(running, "resume").raise_for_status()
    for name in ("stops.json", "decisions.jsonl"):
        with running:
            assert not release(running)["stopped"]
            assert [one["action"] for one in history(running)] == ["resume", "stop"]
        (tmp_path / "state" / name).unlink()


def test_stop_is_not_undone_by_a_restart(tmp_path: Path, clock: WallClock) -> None:
    """The stops file is reset to its state before the last stop: only the decision list has the last one."""
    running = gateway(tmp_path)
    with running:
        send_command(running, "stop").raise_for_status()
        file = tmp_path / "state" / "stops.json"
        until(lambda: file.exists() and len(json.loads(file.read_bytes())) == 1, "the file follows the list")
        before = file.read_bytes()
        send_command(running, "resume").raise_for_status()
        clock.set(-HOUR_S)
        send_command(running, "stop").raise_for_status()
    file.write_bytes(before)
    with running:
        assert release(running)["stopped"]


def test_event_stream_sends_each_decision_once(tmp_path: Path, clock: WallClock) -> None:
    with gateway(tmp_path) as running:
        send_command(running, "stop").raise_for_status()
        with httpx.stream("GET", f"{running.control_url}/api/events", timeout=PATIENCE_S) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: snapshot"
            clock.set(-HOUR_S)
            told = []
            for what in ("resume", "stop", "resume"):
                send_command(running, what).raise_for_status()
                told.append(next_decision(lines))
            clock.set(HOUR_S)
            send_command(running, "stop").raise_for_status()
            told.append(next_decision(lines))
        assert [one["action"] for one in told] == ["resume", "stop", "resume", "stop"]
        assert told == history(running)[-2::-1]
        assert [one["sequence"] for one in told] == [2, 3, 4, 5]


def next_decision(lines: Iterator[str]) -> dict[str, Any]:
    for line in lines:
        if line == "event: decision":
            found: dict[str, Any] = json.loads(next(lines).removeprefix("data: "))
            return found
    raise AssertionError("the events have ended")


def test_an_hour_back_amid_serving_breaks_no_promise(tmp_path: Path, clock: WallClock) -> None:
    """Nor does an hour ahead: a stop and a resume hold through kills, records stay in order, feedback is credited."""
    steps = (("stop", {"stable"}), ("resume", {"stable", "candidate"}), ("stop", {"stable"}))
    running, told, by_hand, groups = gateway(tmp_path), Told(), list[str](), list[list[str]]()
    with running:
        send_command(running, "stop").raise_for_status()
        send_command(running, "resume").raise_for_status()
        for number, (what, served) in enumerate(steps):
            groups.append(predict_in_order(running, told, lambda: clock.set(-HOUR_S if number % 2 == 0 else HOUR_S)))  # noqa: B023
            send_command(running, what).raise_for_status()
            kill_control(running)
            by_hand.append(what)
            told.variants.clear()
            ids = predict_in_order(running, told)
            assert set(told.variants) == served
            assert not send_truths(running, ids)
        assert [one["action"] for one in history(running)] == [*reversed(by_hand), "resume", "stop"]
        assert not told.failures
    places = {record["prediction_id"]: place for place, record in enumerate(records(tmp_path))}
    assert len(places) == len(records(tmp_path)) and set(places) == set(told.ids), "each is there, and once"
    assert all(sorted(group, key=places.__getitem__) == group for group in groups), "in the order of the answers"
    credited = [one["prediction_id"] for one in feedback(tmp_path)]
    assert len(credited) == len(set(credited) & set(told.ids)) == len(steps) * ASKED


def predict_in_order(running: GatewayProcess, told: Told, amid: Callable[[], object] = int) -> list[str]:
    """On one connection, one after the other, so that there is an order; the ids of the answers. `amid`: done when half
    of them have come.
    """
    before = len(told.ids)
    with Client(("127.0.0.1", running.port), 1, requests(1.0)) as client:
        for number in range(ASKED):
            if number == ASKED // 2:
                amid()
            client.send()
            for answer in client.rest():
                told.add(answer)
    return told.ids[before:]


def send_truths(running: GatewayProcess, ids: list[str]) -> list[Any]:
    """What the gateway does not take."""
    said = [{"prediction_id": one, "truth": 1} for one in ids]
    found: list[Any] = httpx.post(f"{running.url}/v2/feedback", json=said).raise_for_status().json()["rejected"]
    return found


def kill_control(running: GatewayProcess) -> None:
    """And the next one takes over."""
    assert running.process is not None
    before = workers(running)
    running.process.kill()
    running.process.wait()
    running.process = gateway_again(running.config, running.config.parent)
    until(running.complete, "the next control")
    until(lambda: not any(command_of(pid) for pid in before), "the end of the workers before")
