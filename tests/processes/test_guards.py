"""Guards, ramps and conditions of a running gateway of two workers; the inputs trigger flaws of real models."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import orjson
import pytest
import yaml
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.control.release.audit import recompute
from gateway.records.segments import PREDICTIONS
from loadtests import judged
from loadtests.client import Client, Seen, request
from loadtests.crossing import decided_ns, is_candidates, lines
from loadtests.judged import NAME, SOUND, Rates
from loadtests.judging import Judge, judged_until
from tests.backends.onnx_models import looping, place
from tests.processes.flawed import until
from tests.running import GatewayProcess

PATIENCE_S = 60.0
EVERYONE = {"name": "everyone", "weight": 20}
RAMPED = {"name": "everyone", "weight": "ramp"}
QUICK, SLOW = 1, 80_000  # turns of a loop: microseconds, and well above LINE_MS
LINE_MS = 25
TOLD_SHARES = (1.0, 0.4)  # truths come less often for the candidate, as they may


def routing(route: dict[str, Any] = EVERYONE, ramp: dict[str, Any] | None = None, **guards: Any) -> dict[str, Any]:
    release = {
        "stable": 1,
        "candidate": 2,
        "split": {"stickiness": "prediction", "routes": [route]},
        "ramp": ramp or {"weights": [20, 100], "interval": "10m"},
        "guards": {"breaker": {"consecutive_failures": 1_000_000}, **guards},
    }
    return {"models": {NAME: release}}


class Live:
    """A gateway, and a client that knows which answers are right."""

    def __init__(self, gateway: GatewayProcess, judge: Judge, client: Client, teller: Client) -> None:
        self.gateway = gateway
        self.judge = judge
        self._client = client
        self._teller = teller

    def api(self, path: str) -> Any:
        return httpx.get(f"{self.gateway.control_url}/api/{path}").raise_for_status().json()

    def order(self, what: str) -> None:
        url = f"{self.gateway.control_url}/api/releases/{NAME}/{what}"
        httpx.post(url, json={"reason": "a test"}).raise_for_status()

    def command(self, what: str) -> str:
        result = CliRunner().invoke(main, [what, NAME, "--config", str(self.gateway.config), "--reason", "a test"])
        assert result.exit_code == 0, result.output
        return result.output

    def release(self) -> Any:
        return self.api(f"releases/{NAME}")

    def weight(self) -> float:
        return float(self.release()["routes"][-1]["in_force_percent"])

    def decided(self, action: str) -> list[dict[str, Any]]:
        """The decisions with this action, the first one first."""
        return [one for one in reversed(self.api("decisions")) if one["action"] == action]

    def until(self, over: Callable[[], bool]) -> None:
        """Send traffic and feedback until `over` holds."""
        assert judged_until(self._client, self._teller, self.judge, over, PATIENCE_S), (
            self.release(),
            self.gateway.log,
        )

    def keep_on(self, seconds: float) -> None:
        judged_until(self._client, self._teller, self.judge, lambda: False, seconds)

    def assert_evidence_can_be_recomputed(self) -> None:
        decisions = [one for one in self.api("decisions") if "guards" in one["evidence"]]
        assert decisions
        for decision in decisions:
            evidence, again = decision["evidence"], recompute(decision["evidence"])
            assert again.combined == pytest.approx(evidence["log10_e"])
            assert again.guards == pytest.approx({guard["name"]: guard["log10_e"] for guard in evidence["guards"]})
            safe = {guard["name"]: guard["log10_safe"] for guard in evidence["guards"] if guard["name"] in again.safe}
            assert again.safe == pytest.approx(safe)


@contextmanager
def live(
    folder: Path,
    rules: dict[str, Any],
    candidate: Rates = SOUND,
    delay_s: float = 0.0,
    told_shares: tuple[float, float] = (1.0, 1.0),
) -> Iterator[Live]:
    judged.place(folder / "models", SOUND, candidate)
    judge = Judge(generator=Random(0), delay_s=delay_s, told_shares=told_shares)
    with (
        GatewayProcess(folder, folder / "models", rules, server={"workers": 2}) as gateway,
        Client(("127.0.0.1", gateway.port), 8, judge.request) as client,
        Client(("127.0.0.1", gateway.port), 1, judge.feedback, reconnect=True) as teller,
    ):
        yield Live(gateway, judge, client, teller)


@pytest.mark.parametrize(
    ("candidate", "comparison", "delay_s"),
    [
        (Rates(failures=0.3), {"name": "errors", "metric": "failures"}, 0.0),
        (Rates(repeats=2000), {"name": "slow", "metric": "slow_requests", "threshold": "8ms"}, 0.0),
        (Rates(mistakes=0.6), {"name": "accuracy", "metric": "wrong_feedback"}, 0.1),
    ],
    ids=["failures", "slow", "wrong"],
)
def test_harmful_candidate_is_stopped_by_the_matching_guard(
    tmp_path: Path, candidate: Rates, comparison: dict[str, Any], delay_s: float
) -> None:
    with live(tmp_path, routing(comparisons=[comparison]), candidate, delay_s, TOLD_SHARES) as run:
        run.until(lambda: run.release()["stopped"])
        run.keep_on(0.2)
        (stop,) = run.decided("stop")
        assert (stop["by"], run.weight()) == (comparison["name"], 0)
        assert stop["evidence"]["log10_e"]["stop"] >= 2
        run.assert_evidence_can_be_recomputed()
    stopped_ns = stop["time_ns"]
    predictions = list(lines(tmp_path / "state" / "records", PREDICTIONS))
    later = [record for record in predictions if decided_ns(record) > stopped_ns]
    assert later
    assert not any(is_candidates(record) for record in later)


def test_drift_pauses_a_ramp_until_an_operator_continues(tmp_path: Path) -> None:
    drift = {"name": "drift", "metric": "predicted_class"}
    with live(tmp_path, routing(RAMPED, comparisons=[drift]), Rates(favour=0.6)) as run:
        run.until(lambda: run.release()["ramp"]["stage"] == "paused")
        assert (run.weight(), run.release()["stopped"]) == (20, False)
        assert "drift" in run.release()["ramp"]["blocked_on"]
        assert "continues" in run.command("continue")
        run.until(lambda: len(run.decided("pause")) == 2)  # it still predicts other classes
        first, second = (pause["evidence"]["restart"] for pause in run.decided("pause"))
        assert second == first + 1
        run.assert_evidence_can_be_recomputed()
        run.command("hold")
        assert run.release()["ramp"]["stage"] == "held"


def test_limit_stops_the_candidate(tmp_path: Path) -> None:
    limit = {"name": "hard", "metric": "candidate.error_rate", "above": "20%", "window": "1s", "min_requests": 20}
    with live(tmp_path, routing(limits=[limit]), Rates(failures=0.5)) as run:
        run.until(lambda: run.release()["stopped"])
        (stop,) = run.decided("stop")
        (violated,) = stop["evidence"]["limits"]
        assert (stop["by"], violated["name"]) == ("hard", "hard")
        assert violated["value"] > 0.2
        assert violated["requests"] >= 20


@pytest.mark.slow
def test_ramp_rises_keeps_its_step_over_a_restart_and_restarts_on_resume(tmp_path: Path) -> None:
    ramp = {"weights": [5, 20, 50, 100], "interval": "2s", "advance": "no-violation"}
    rules = routing(RAMPED, ramp, comparisons=[{"name": "errors", "metric": "failures"}])
    with live(tmp_path, rules) as run:
        assert run.weight() == 5
        run.until(lambda: len(run.decided("advance")) == 2)
        run.order("hold")
        assert run.weight() == 50
        run.assert_evidence_can_be_recomputed()
    with live(tmp_path, rules) as run:
        until(lambda: run.weight() == 50, "the weight that it was held at")
        run.keep_on(0.3)
        assert (run.weight(), run.release()["ramp"]["stage"]) == (50, "held")
        epoch = run.release()["epoch"]
        run.order("stop")
        assert run.weight() == 0
        run.order("resume")
        until(lambda: run.weight() == 5, "the first weight")
        assert run.release()["epoch"] == epoch + 1
        run.order("hold")
        run.order("continue")
        run.until(lambda: run.release()["ramp"]["stage"] == "complete")
        assert run.weight() == 100
        run.assert_evidence_can_be_recomputed()
        assert [one["weight_ppm"] for one in records_of_the_candidate(tmp_path) if one["weight_ppm"] == 50_000]


def records_of_the_candidate(folder: Path) -> list[dict[str, Any]]:
    return [record for record in lines(folder / "state" / "records", PREDICTIONS) if is_candidates(record)]


def test_edit_of_another_model_leaves_a_ramp_undisturbed(tmp_path: Path) -> None:
    rules = routing(RAMPED, comparisons=[{"name": "errors", "metric": "failures"}])
    judged.place(tmp_path / "models", SOUND, SOUND)
    (tmp_path / "models" / NAME).rename(tmp_path / "models" / "other")
    rules["models"]["other"] = {"stable": 1}
    with live(tmp_path, rules, Rates(failures=0.003)) as run:
        run.until(lambda: run.release()["guards"][0]["verdict"] != "no-data")
        before = at_rest(run)
        rules["models"]["other"] = {"stable": 2}
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump(rules))
        until(lambda: run.api("config")["generation"] == 2, "the edit in force")
        after = run.release()
        assert after["ramp"]["next_step_in_s"] < before["ramp"]["next_step_in_s"]
        assert after["guards"] == before["guards"]
        assert (after["epoch"], after["ramp"]["step"]) == (before["epoch"], before["ramp"]["step"])
        assert [(one["model"], one["action"]) for one in run.api("decisions")] == [("other", "edit")]


def at_rest(run: Live) -> Any:
    """The release, once all that was answered has been judged: some ticks change no guard."""
    found = run.release()
    while True:
        time.sleep(0.5)
        before, found = found, run.release()
        if found["guards"] == before["guards"]:
            return found


@pytest.mark.slow
def test_condition_on_p99_closes_and_reopens_a_route_without_flapping(tmp_path: Path) -> None:
    for version in (1, 2):
        place(tmp_path / "models", "loops", version, looping)
    condition = {"metric": "candidate.latency_p99_ms", "below": LINE_MS, "window": "1s"}
    routes = [
        {"name": "pilot", "match": [{"customer": "pilot"}], "weight": 100},
        {"name": "everyone", "weight": 10, "while": [condition]},
    ]
    release = {"stable": 1, "candidate": 2, "split": {"routes": routes}, "rescue": {"timeout": "5s"}}
    rules = {"models": {"loops": release}}
    turns = [QUICK]
    with (
        GatewayProcess(tmp_path, tmp_path / "models", rules, server={"workers": 2}) as gateway,
        Client(("127.0.0.1", gateway.port), 1, lambda: pilot(turns[0])) as client,
    ):
        api = f"{gateway.control_url}/api"

        def weight() -> float:
            (_, everyone) = httpx.get(f"{api}/releases/loops").json()["routes"]
            return float(everyone["in_force_percent"])

        def drive(seconds: float, weight_then: float | None = None) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end and (weight_then is None or weight() != weight_then):
                client.keep_busy(0.1, Seen())

        drive(0.5)
        assert weight() == 0, "it opens only after a whole window"
        drive(PATIENCE_S, 10)
        turns[0] = SLOW
        drive(PATIENCE_S, 0)
        for _ in range(6):  # now above the line, now below
            for turns[0] in (SLOW, QUICK):
                drive(0.25)
        drive(PATIENCE_S, 10)
        decisions = [one for one in reversed(httpx.get(f"{api}/decisions").json()) if one["action"] == "weight"]
    weights = [one["evidence"]["weight_ppm"] for one in decisions]
    assert len(weights) >= 4
    assert weights == [0, 100_000] * (len(weights) // 2)
    for closed, opened in zip(decisions[2::2], decisions[3::2], strict=True):
        assert opened["time_ns"] - closed["time_ns"] >= 1e9, "what closes a route keeps it closed for a window"
        assert "candidate.latency_p99_ms is" in closed["reason"]


def pilot(turns: int) -> bytes:
    tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [turns]}
    return request("/v2/models/loops/infer", orjson.dumps({"inputs": [tensor]}), "x-customer-id: pilot\r\n")
