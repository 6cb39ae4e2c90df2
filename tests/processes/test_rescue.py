"""When a candidate fails in any way, stable answers instead; the breaker stops the candidate."""

import time
from pathlib import Path

import httpx
import pytest
import yaml

from loadtests import models
from loadtests.client import Client, Seen
from tests.processes.flawed import body, gateway, metric, release, requests, send_command, until
from tests.wire import SMALL_BODY, Wire, post

REASON = {"raises": "model_error", "hangs": "timeout", "nan": "invalid_output", "shape": "invalid_output"}
PATIENT = {"guards": {"breaker": {"consecutive_failures": 1_000_000}}, "rescue": {"timeout": "100ms"}}


def with_settings(**more: object) -> object:
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]}
    return {"models": {"flawed": {"stable": 1, "candidate": 2, "split": split, **more}}}


@pytest.mark.parametrize("flaw", models.FLAWS)
def test_stable_answers_for_a_failing_candidate(tmp_path: Path, flaw: str) -> None:
    running = gateway(tmp_path, flaw)
    (tmp_path / "routing.yaml").write_text(yaml.safe_dump(with_settings(**PATIENT)))
    with running:
        seen = Seen()
        with Client(("127.0.0.1", running.port), 4, requests(*[1.0] * 11, -1.0)) as client:
            client.keep_busy(1.0, seen)
        assert not seen.failures
        assert seen.variants["candidate"] > 0
        failures = metric(running, "gateway_rescues_total", reason=REASON[flaw])
        assert failures > 0
        assert failures == metric(running, "gateway_predictions_total", variant="candidate", outcome=REASON[flaw]), (
            "a rescue is a failure of the candidate"
        )
        answered = metric(running, "gateway_predictions_total", outcome="ok")
        assert answered == sum(seen.variants.values())


def test_rescued_answer_is_that_of_stable(tmp_path: Path) -> None:
    with gateway(tmp_path, "nan") as running:
        answers = [httpx.post(f"{running.url}/v2/models/flawed/infer", content=body(-1.0)).json() for _ in range(20)]
        assert {answer["parameters"]["variant"] for answer in answers} == {"stable"}
        assert all(answer["outputs"][0]["data"] == [-2.0, 2.0, 4.0, 6.0] for answer in answers)


def test_breaker_stops_a_candidate_after_5_failures_in_a_row(tmp_path: Path) -> None:
    with gateway(tmp_path, "nan") as running:
        seen = Seen()
        with Client(("127.0.0.1", running.port), 8, requests(-1.0)) as client:
            client.keep_busy(0.3, seen)
            until(lambda: release(running)["stop"] is not None, "control has seen the breaker")
            stop = release(running)["stop"]
            assert (stop["by"], stop["reason"]) == ("breaker", "5 failures in a row")
            client.keep_busy(0.2, seen)
            assert not seen.failures
            assert send_command(running, "resume").status_code == 200
            assert not release(running)["stopped"]
            client.keep_busy(0.3, seen)
            until(lambda: release(running)["stop"] is not None, "it has tripped again, in its new epoch")
        assert not seen.failures


def test_request_that_both_versions_reject_is_a_client_error(tmp_path: Path) -> None:
    with gateway(tmp_path, "raises") as running:
        wrong = body(1.0).replace(b"[1, 4]", b"[1, 3]")
        statuses = {httpx.post(f"{running.url}/v2/models/flawed/infer", content=wrong).status_code for _ in range(20)}
        assert statuses == {400}
        assert release(running)["stopped"] is False
        assert metric(running, "gateway_rescues_total") == 0


@pytest.mark.parametrize("pad", [0, 2 * SMALL_BODY], ids=["short", "large"])
def test_hanging_candidate_is_stopped_although_clients_disconnect_early(tmp_path: Path, pad: int) -> None:
    with gateway(tmp_path, "hangs") as running:
        for _ in range(40):  # half of them are the candidate's; five in a row in one worker are its end
            with Wire(running) as wire:
                wire.send(post("flawed", body(-1.0).ljust(pad)))
                time.sleep(0.02)  # a client's patience; a rescue comes after half a second
        until(lambda: bool(release(running)["stopped"]), "the breaker to stop it")
