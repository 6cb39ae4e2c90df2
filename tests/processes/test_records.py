"""Records of real gateways: complete and exact, whichever process dies."""

import base64
import gzip
import json
import random
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.control.record_writer.writer import MAX_WAIT_S
from gateway.shm.claim import memory_path
from gateway.shm.owner import files_of, measured_path
from loadtests.client import Client
from loadtests.recorded import Told
from tests import zoo
from tests.backends import onnx_models
from tests.backends.onnx_models import place
from tests.processes.flawed import body, gateway, kill, metric, requests, suspend, until, workers
from tests.processes.recorded import assert_all_are_recorded_once, feedback, records
from tests.processes.test_death import gateway_again, healthy
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

KILLS = 5
CONNECTIONS = 16
FLAWED = "/v2/models/flawed/infer"


def rings(running: GatewayProcess) -> list[Path]:
    """The memory files of the gateway's state folder."""
    return files_of(memory_path(running.config.parent / "state").name)


def ready(running: GatewayProcess) -> bool:
    return metric(running, "gateway_workers", state="ready") == 2


def killed(running: GatewayProcess) -> None:
    """Kill the whole gateway, control first, with SIGKILL."""
    pids = workers(running)
    kill(running.pid)
    for pid in pids:
        kill(pid)
    assert running.process is not None
    running.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all have ended")


def end_gateway(again: "subprocess.Popen[bytes]") -> None:
    again.terminate()
    assert again.wait(60) == 0


def test_every_answered_prediction_is_recorded_once_whichever_worker_is_killed(tmp_path: Path) -> None:
    generator = random.Random(4)
    running, told = gateway(tmp_path), Told()
    with running:
        with Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0, 2.0), reconnect=True) as client:
            for _ in range(KILLS):
                client.keep_busy(0.2 + generator.random() / 5, told)
                kill(generator.choice(workers(running)))
                client.keep_busy(0.2, told)
                until(lambda: ready(running), "a new worker")
            while len(told.ids) < 1000:
                client.keep_busy(0.3, told)
            suspend(running.pid)  # so that nothing more is drained: a gateway that starts may remove empty rings
            client.keep_busy(0.3, told)
            killed(running)
        assert not told.failures
        assert rings(running), "what was not drained waits in memory"
        again = gateway_again(running.config, tmp_path)
        until(lambda: healthy(running.control_url), "a new gateway on the same state")
        end_gateway(again)
        running.process = again
    assert_all_are_recorded_once(tmp_path, told)
    assert rings(running) == []


def test_predictions_of_orphans_are_recorded_after_control_was_killed(tmp_path: Path) -> None:
    running, told = gateway(tmp_path), Told()
    with running, Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0), reconnect=True) as client:
        for _ in range(2):
            client.keep_busy(0.3, told)
            orphans = workers(running)
            kill(running.pid)
            assert running.process is not None
            running.process.wait()
            client.keep_busy(0.3, told)
            running.process = gateway_again(running.config, tmp_path)
            until(lambda: healthy(running.control_url), "a new gateway on the same state")
            client.keep_busy(0.3, told)
            until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), "the orphans have ended")  # noqa: B023
        client.keep_busy(0.3, told)
        assert not told.failures
        running.stop()
    assert_all_are_recorded_once(tmp_path, told)
    assert rings(running) == []


def test_record_describes_the_decision_the_model_and_the_request(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        headers = {"x-customer-id": "acme", "x-modality": "tabular"}
        answers = [httpx.post(f"{running.url}{FLAWED}", content=body(1.0), headers=headers) for _ in range(20)]
        pinned = httpx.post(f"{running.url}/v2/models/flawed/versions/2/infer", content=body(1.0))
        mistaken = httpx.post(f"{running.url}{FLAWED}", content=b"{}")
        assert mistaken.status_code == 400
    found = {record["prediction_id"]: record for record in records(tmp_path)}
    assert len(found) == 21, "a client's own mistake is no prediction"
    for answer in answers:
        record = found[answer.headers["x-prediction-id"]]
        variant = answer.headers["x-variant"]
        assert record["variant"] == variant
        assert record["version"] == (2 if variant == "candidate" else 1) == int(answer.headers["x-model-version"])
        file = tmp_path / "models" / "flawed" / str(record["version"]) / "model.onnx"
        assert record["model_sha256"] == sha256(file.read_bytes()).hexdigest()
        assert (record["kind"], record["model"], record["route"]) == ("prediction", "flawed", "everyone")
        assert (record["propensity"], record["weight_ppm"], record["salt"]) == (0.5, 500_000, "flawed-2")
        assert (record["bucket"] < 500_000) == (variant == "candidate")
        assert (record["customer"], record["modality"], record["generation"]) == ("acme", "tabular", 1)
        assert (record["outcome"], record["rescued_from"], record["rescue_reason"]) == ("ok", None, None)
        assert record["latency_us"] >= record["queue_us"] >= 0 and record["batch"] >= 1
        assert record["request"] == json.loads(body(1.0))
        assert record["response"] == answer.json()
    record = found[pinned.headers["x-prediction-id"]]
    assert (record["variant"], record["route"], record["propensity"], record["bucket"]) == ("pinned", "pinned", 1, None)


def test_record_of_a_rescued_prediction_says_from_which_version_and_why(tmp_path: Path) -> None:
    with gateway(tmp_path, "nan") as running:
        for _ in range(20):
            assert httpx.post(f"{running.url}{FLAWED}", content=body(-1.0)).status_code == 200
        rescues = metric(running, "gateway_rescues_total")
    rescued = [record for record in records(tmp_path) if record["rescued_from"] is not None]
    assert len(rescued) == rescues > 0
    for record in rescued:
        assert (record["rescued_from"], record["rescue_reason"]) == (2, "invalid_output")
        assert (record["version"], record["variant"], record["outcome"]) == (1, "stable", "ok")
        assert record["bucket"] < 500_000, "the draw was the candidate's"


def test_failed_prediction_is_recorded_with_its_error(tmp_path: Path) -> None:
    with gateway(tmp_path, "nan") as running:
        answer = httpx.post(f"{running.url}/v2/models/flawed/versions/2/infer", content=body(-1.0))
        assert answer.status_code == 500
    (record,) = records(tmp_path)
    assert (record["outcome"], record["response"]) == ("invalid_output", None)
    assert record["error"] == answer.json()["error"]
    assert record["request"] == json.loads(body(-1.0))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that accept binary tensors and raw bodies."""
    folder = tmp_path_factory.mktemp("media")
    place(folder, "doubling", 1, onnx_models.doubling)
    place(folder, "image", 1, zoo.identity("BYTES"))
    (folder / "image" / "model.yaml").write_text("modality: image\n")
    return folder


def test_binary_tensors_are_recorded_as_sent(tmp_path: Path, media: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    tensor = {"name": "x", "shape": [3, 2], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
    with GatewayProcess(tmp_path, media) as running:
        headers = {"inference-header-content-length": str(len(head))}
        answer = httpx.post(f"{running.url}/v2/models/doubling/infer", content=head + rows.tobytes(), headers=headers)
    (record,) = records(tmp_path)
    assert record["request"] == json.loads(head)
    assert base64.b64decode(record["request_binary"]) == rows.tobytes()
    length = int(answer.headers["inference-header-content-length"])
    assert record["response"] == json.loads(answer.content[:length])
    assert base64.b64decode(record["response_binary"]) == answer.content[length:] == (rows * 2).tobytes()


@pytest.mark.parametrize(
    ("content_type", "kind"), [("image/png", "image"), ("text/plain; charset=utf-8", "text"), (None, "raw")]
)
def test_raw_body_is_recorded_as_sent(tmp_path: Path, media: Path, content_type: str | None, kind: str) -> None:
    raw = 'Grüße,\n"alle" \\ miteinander\r\n\0'.encode()
    headers = {"content-type": content_type} if content_type else {"inference-header-content-length": "0"}
    with GatewayProcess(tmp_path, media) as running:
        assert httpx.post(f"{running.url}/v2/models/image/infer", content=raw, headers=headers).status_code == 200
    (record,) = records(tmp_path)
    assert (record["request"], record["request_media"]) == (None, kind)
    assert base64.b64decode(record["request_binary"]) == raw


def test_pretty_printed_and_compressed_requests_are_one_line_each(tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(body(1.0))
    document["id"] = "two\nlines\r\n\u2028"
    pretty = json.dumps(document, indent=2).replace("\n", "\r\n").encode()
    with gateway(tmp_path) as running:
        packed = {"content-encoding": "gzip"}
        for _ in range(3):
            assert httpx.post(f"{running.url}{FLAWED}", content=pretty).status_code == 200
        assert httpx.post(f"{running.url}{FLAWED}", content=gzip.compress(pretty), headers=packed).status_code == 200
    found = records(tmp_path)
    assert [record["request"] for record in found] == [document] * 4
    assert {record["response"]["id"] for record in found} == {document["id"]}


@pytest.mark.parametrize("inputs", ["hash", "none"])
def test_inputs_are_omitted_from_records_if_configured(tmp_path: Path, inputs: str) -> None:
    with gateway(tmp_path, records={"inputs": inputs}) as running:
        answer = httpx.post(f"{running.url}{FLAWED}", content=body(12.5))
    (record,) = records(tmp_path)
    assert record["request"] is None
    assert record.get("request_sha256") == (sha256(body(12.5)).hexdigest() if inputs == "hash" else None)
    assert record["response"] == answer.json()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state" / "records").iterdir())
    assert b"12.5" not in stored and b"25.0" in stored


def wait_until_unchanged(read: Callable[[], Any]) -> Any:
    """The records, once they have not changed for longer than predictions wait to be written."""
    found = read()
    while True:
        time.sleep(3 * MAX_WAIT_S)
        before, found = found, read()
        if before == found:
            return found


def test_sampled_records_keep_their_feedback_and_all_feedback_counts(tmp_path: Path) -> None:
    count, sample = 600, 0.1
    with gateway(tmp_path, records={"sample": "10%"}) as running, httpx.Client(base_url=running.url) as client:
        ids = []
        for _ in range(count):
            ids.append(client.post(FLAWED, content=body(1.0)).headers["x-prediction-id"])
        entries = [{"prediction_id": each, "reward": 2.0} for each in ids]
        assert client.post("/v2/feedback", json=entries + entries[:50]).json()["accepted"] == count + 50
        heard = "gateway_feedback_total"
        until(lambda: metric(running, heard, verdict="unlabelled") == count, "all feedback is heard")
        versions = httpx.get(f"{running.control_url}/api/releases/flawed").json()["versions"]
        assert [version["reward_mean"] for version in versions] == [2.0, 2.0]
        written = wait_until_unchanged(lambda: httpx.get(f"{running.control_url}/api/config").json()["records"])
    recorded = [record["prediction_id"] for record in records(tmp_path)]
    assert set(recorded) <= set(ids)
    assert abs(len(recorded) - count * sample) < 5 * sqrt(count * sample * (1 - sample))
    told = [record["prediction_id"] for record in feedback(tmp_path)]
    assert set(told) == set(recorded), "feedback is kept where its prediction is"
    assert written == {
        "error": None,
        "written": {"prediction": len(recorded), "feedback": len(told), "mirror": 0},
        "dropped": 0,
    }


def test_live_accuracy_follows_feedback_and_its_correction(tmp_path: Path) -> None:
    models = tmp_path / "models"
    place(models, "pets", 1, zoo.identity("FP32"))
    (models / "pets" / "model.yaml").write_text("prediction: {output: y, labels: [cat, dog]}\n")
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.0, 1.0]}
    with GatewayProcess(tmp_path, models) as running:

        def accuracy() -> Any:
            version = release_of(running)
            return version["accuracy"], version["labelled"]

        answers = [httpx.post(f"{running.url}/v2/models/pets/infer", json={"inputs": [tensor]}) for _ in range(4)]
        said = [
            {"prediction_id": answer.headers["x-prediction-id"], "truth": truth}
            for answer, truth in zip(answers, ("dog", "cat", 1, 1), strict=True)
        ]
        httpx.post(f"{running.url}/v2/feedback", json=said)
        until(lambda: accuracy() == (0.75, 4), "three of four are right")
        httpx.post(f"{running.url}/v2/feedback", json=[*said, {**said[0], "truth": "cat"}])
        until(lambda: accuracy() == (0.5, 4), "one is corrected")
        httpx.post(f"{running.url}/v2/feedback", json={**said[0], "truth": "cow"})
        (models / "pets" / "model.yaml").write_text("prediction: {output: y, labels: [wolf, fox]}\n")
        assert classes_of(running) == [4, 4, 0], "the workers have loaded cat and dog"
        assert {one["name"] for one in release_of(running)["classes"]} == {"cat", "dog"}
        assert httpx.post(f"{running.url}/v2/repository/models/pets/load").status_code == 200
        assert classes_of(running) == [4, 0, 4]
        assert {one["name"] for one in release_of(running)["classes"]} == {"wolf", "fox"}
        assert metric(running, "gateway_feedback_total", verdict="correct") == 3


def classes_of(running: GatewayProcess) -> list[float]:
    """Rows predicted: in all, as the second class with its first name, and with its second."""
    name = "gateway_predicted_class_total"
    named = [metric(running, name, model="pets", **{"class": label}) for label in ("dog", "fox")]
    return [metric(running, name, model="pets"), *named]


def release_of(running: GatewayProcess) -> Any:
    (version,) = httpx.get(f"{running.control_url}/api/releases/pets").json()["versions"]
    return version


def test_clean_shutdown_leaves_no_memory_files(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        httpx.post(f"{running.url}{FLAWED}", content=body(1.0))
        measured_path(memory_path(tmp_path / "state")).touch()  # loads write it only of files that are two seconds old
        assert len(rings(running)) == 3 + 2 * 4  # boards, what loads have measured, and each worker's rings
    assert rings(running) == []
    names = sorted(path.name for path in (tmp_path / "state" / "records").iterdir())
    assert names == ["predictions-000000001.jsonl"], "sealed, so that a shipper takes it"
