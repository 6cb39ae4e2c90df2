"""Versions that another gateway runs: answers, records, rescue, stop and mirror, while servers die, hang and return."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from gateway.protocol.tensors import DATATYPES
from loadtests.client import Client, Seen, request
from tests.backends.onnx_models import place, scaling
from tests.processes.flawed import metric, until
from tests.processes.recorded import records
from tests.running import GatewayProcess
from tests.zoo import identity, mixed, scalar

pytestmark = pytest.mark.slow
EVERYONE = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 100}]}
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}).encode()
LOCAL, REMOTE = [1.0, 2.0], [3.0, 6.0]  # version 1 multiplies by 1, the server by 3


def far_server(folder: Path, **settings: Any) -> GatewayProcess:
    """The other server: 'm' multiplies by 3."""
    place(folder / "models", "m", 1, scaling(3.0))
    place(folder / "models", "mixed", 1, mixed)
    place(folder / "models", "scalar", 1, scalar)
    for datatype in DATATYPES:
        place(folder / "models", f"identity_{datatype.lower()}", 1, identity(datatype))
    return GatewayProcess(folder, folder / "models", **settings)


def remote(models: Path, name: str, version: int, server: GatewayProcess, **settings: Any) -> None:
    folder = models / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "remote.yaml").write_text(yaml.safe_dump({"url": server.url, **settings}))


def near(folder: Path, stable: Any, candidate: Any, release: dict[str, Any] | None = None) -> GatewayProcess:
    """The gateway itself. `stable`, `candidate`: the server that runs it; None: it is run here, as ONNX."""
    models = folder / "models"
    for version, where in ((1, stable), (2, candidate)):
        if where is None:
            place(models, "m", version, scaling(1.0))
        else:
            remote(models, "m", version, where)
    routing = {"models": {"m": {"stable": 1, "candidate": 2, **(release or {"split": EVERYONE})}}}
    return GatewayProcess(folder, models, routing, server={"workers": 2})


def ask(gateway: GatewayProcess, path: str = "m", content: bytes = BODY, **headers: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v2/models/{path}/infer", content=content, headers=headers, timeout=30)


def said(gateway: GatewayProcess) -> tuple[str, list[float]]:
    document = ask(gateway).json()
    return document["parameters"]["variant"], document["outputs"][0]["data"]


def processes_of(gateway: GatewayProcess) -> list[int]:
    found = [gateway.pid]
    for pid in found:
        try:
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            continue
    return found


def signal_all(gateway: GatewayProcess, number: signal.Signals) -> None:
    for pid in processes_of(gateway):
        with suppress(ProcessLookupError):  # it has ended with another one
            os.kill(pid, number)


@contextmanager
def load(gateway: GatewayProcess, connections: int = 8) -> Iterator[Seen]:
    """Clients that ask all the time."""
    seen, end = Seen(), threading.Event()

    def run() -> None:
        with Client(("127.0.0.1", gateway.port), connections, lambda: request("/v2/models/m/infer", BODY)) as client:
            while not end.is_set():
                client.keep_busy(0.05, seen)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize("kinds", ["candidate", "stable", "both"])
def test_mixed_releases_answer_and_record(tmp_path: Path, kinds: str) -> None:
    with far_server(tmp_path / "far") as far:
        places = {"candidate": (None, far), "stable": (far, None), "both": (far, far)}[kinds]
        with near(tmp_path / "near", *places) as gateway:
            until(lambda: said(gateway)[0] == "candidate", "the candidate")
            assert said(gateway) == ("candidate", LOCAL if kinds == "stable" else REMOTE)
            pinned = ask(gateway, "m/versions/1").json()
            assert pinned["outputs"][0]["data"] == (LOCAL if kinds == "candidate" else REMOTE)
            httpx.post(f"{gateway.control_url}/api/releases/m/stop", json={"reason": "test"}).raise_for_status()
            assert said(gateway) == ("stable", LOCAL if kinds == "candidate" else REMOTE)
    found = [one for one in records(tmp_path / "near") if one.get("version") == (1 if kinds == "stable" else 2)]
    assert found
    assert {one["model_sha256"] for one in found} == {None}
    assert "Traceback" not in gateway.log


def test_answers_are_those_of_the_server_in_every_datatype(tmp_path: Path) -> None:
    import tritonclient.http as triton

    generator = np.random.default_rng(0)
    with far_server(tmp_path / "far") as far:
        for model in ("mixed", "scalar", *(f"identity_{datatype.lower()}" for datatype in DATATYPES)):
            remote(tmp_path / "near" / "models", model, 1, far)
        with GatewayProcess(tmp_path / "near", tmp_path / "near" / "models") as gateway:
            clients = [triton.InferenceServerClient(one.address) for one in (far, gateway)]
            for datatype in DATATYPES.values():
                for shape in ((3, 4), (0, 4), (1, 0)):
                    if datatype.name == "BYTES":
                        data = np.array([b"a\xff\x00b", b"", "ä".encode()] * 4, object)[: np.prod(shape)].reshape(shape)
                    else:
                        data = generator.integers(0, 2, shape).astype(datatype.dtype)
                    for binary in (True, False):
                        if not binary and datatype.name in ("BYTES", "FP16"):
                            continue
                        given = triton.InferInput("x", shape, datatype.name)
                        given.set_data_from_numpy(data, binary_data=binary)
                        wanted = [triton.InferRequestedOutput("y", binary_data=binary)]
                        model = f"identity_{datatype.name.lower()}"
                        direct, through = (_result(client, model, given, wanted) for client in clients)
                        assert direct == through, (datatype.name, shape, binary)
            body = {
                "inputs": [
                    {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
                    {"name": "factor", "shape": [], "datatype": "FP32", "data": [2]},
                ]
            }
            answers = [ask(one, "scalar", json.dumps(body).encode()).json()["outputs"] for one in (far, gateway)]
            assert answers[0] == answers[1]
            body["inputs"] = [
                {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
                {"name": "count", "shape": [1, 1], "datatype": "INT64", "data": [2]},
                {"name": "name", "shape": [1, 1], "datatype": "BYTES", "data": ["ä"]},
            ]
            for outputs in ([], [{"name": "same_name"}], [{"name": "scaled", "parameters": {"classification": 2}}]):
                content = json.dumps({**body, "outputs": outputs}).encode()
                one, other = (ask(gateway, "mixed", content).json() for gateway in (far, gateway))
                assert one["outputs"] == other["outputs"]
            media = [
                ask(one, "identity_bytes", b"RIFF\xff\x00", **{"content-type": "audio/wav"}) for one in (far, gateway)
            ]
            assert media[1].status_code in (media[0].status_code, 200)
        assert "Traceback" not in gateway.log


def _result(client: Any, model: str, given: Any, wanted: Any) -> Any:
    try:
        found = client.infer(model, [given], outputs=wanted)
    except Exception as error:
        return type(error).__name__
    array = found.as_numpy("y")
    return None if array is None else (array.shape, array.dtype, array.tolist())


def test_a_candidates_server_that_is_killed_hangs_and_returns_costs_no_request(tmp_path: Path) -> None:
    far = far_server(tmp_path / "far")
    with far, near(tmp_path / "near", None, far) as gateway:
        until(lambda: said(gateway)[0] == "candidate", "the candidate")
        with load(gateway) as seen:
            for _ in range(3):
                until(lambda: said(gateway)[0] == "candidate", "the candidate")
                signal_all(far, signal.SIGKILL)
                assert far.process is not None
                far.process.wait()
                until(lambda: said(gateway) == ("stable", LOCAL), "stable")
                far.__enter__()
            until(lambda: said(gateway)[0] == "candidate", "the candidate's return")
            signal_all(far, signal.SIGSTOP)
            began_s = time.monotonic()
            try:
                assert said(gateway) == ("stable", LOCAL)
                hung_s = time.monotonic() - began_s
            finally:
                signal_all(far, signal.SIGCONT)
        assert hung_s < 20
        assert seen.failures == Counter()
        assert metric(gateway, "gateway_rescues_total", model="m", reason="unavailable") > 0
    assert "Traceback" not in gateway.log


def test_stop_is_final_and_waits_for_no_server(tmp_path: Path) -> None:
    with far_server(tmp_path / "far") as far, near(tmp_path / "near", None, far) as gateway:
        until(lambda: said(gateway)[0] == "candidate", "the candidate")
        before, after = Seen(), Seen()
        api = f"{gateway.control_url}/api/releases/m"
        with (
            httpx.Client() as control,
            Client(("127.0.0.1", gateway.port), 8, lambda: request("/v2/models/m/infer", BODY)) as client,
        ):
            for _ in range(200):
                client.keep_busy(0.01, before)
                client.send()
                control.post(f"{api}/stop", json={"reason": "test"}).raise_for_status()
                client.there()
                for answer in client.rest():
                    after.add(answer)
                client.keep_busy(0.01, after)
                control.post(f"{api}/resume", json={"reason": "test"}).raise_for_status()
            assert (before.failures, after.failures) == (Counter(), Counter())
            assert before.variants["candidate"] > 200
            assert after.variants["candidate"] == 0
            client.keep_busy(0.2, before)
            signal_all(far, signal.SIGSTOP)
            try:
                client.send()
                time.sleep(0.3)  # until they are under way
                began_s = time.monotonic()
                control.post(f"{api}/stop", json={"reason": "test"}).raise_for_status()
                rest = client.rest()
                took_s = time.monotonic() - began_s
            finally:
                signal_all(far, signal.SIGCONT)
        assert {(answer.status, answer.variant) for answer in rest} == {(200, "stable")}
        assert took_s < 0.5
    assert "Traceback" not in gateway.log


def test_a_mirrored_remote_candidate_is_compared_and_noticed_by_no_client(tmp_path: Path) -> None:
    silent = {"split": {**EVERYONE, "routes": [{"name": "everyone", "weight": 0}]}, "mirror": {"weight": 100}}
    far = far_server(tmp_path / "far")
    with far, near(tmp_path / "near", None, far, silent) as gateway:

        def compared() -> bool:
            assert said(gateway) == ("stable", LOCAL)
            return metric(gateway, "gateway_mirror_total", model="m", result="disagree") > 0

        until(compared, "a comparison")
        with load(gateway) as seen:
            signal_all(far, signal.SIGKILL)
            assert far.process is not None
            far.process.wait()
            time.sleep(0.5)
            far.__enter__()
        assert seen.failures == Counter()
    assert "Traceback" not in gateway.log
