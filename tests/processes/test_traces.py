"""`gateway trace --url` says what the command says where the state folder is."""

import json
import os
import select
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.control.records_jobs import MAX_TRACES
from gateway.records.token import Signer, encoded_names
from gateway.records.token_keys import token_keys
from gateway.routing.release import Decision, Variant
from tests.processes.flawed import until
from tests.processes.test_datasets import frozen_job, nothing_is_left
from tests.recording import MODELS, json_request
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

TRACES = "/api/traces"
CONTENT = "ef" * 32
Traced = tuple[GatewayProcess, str, str]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """A gateway, the id of a prediction that is recorded, with feedback, and one from before its oldest record."""
    folder = tmp_path_factory.mktemp("gateway")
    version = folder / "models" / "digits" / "1"
    shutil.copytree(MODELS / "digits" / "1", version)
    shutil.copy(MODELS / "digits" / "model.yaml", version.parent)
    said = json.loads((version / "training.json").read_text())
    (version / "training.json").write_text(json.dumps(said | {"dataset_content_sha256": CONTENT}))
    (folder / "state").mkdir()
    deleted = genuine(folder / "state")
    with GatewayProcess(folder, version.parents[1], {"models": {"digits": {"stable": 1}}}) as running:
        body = json_request("digits", np.zeros((1, 64), np.float32))
        with httpx.Client(base_url=running.url) as client:
            answer = client.post("/v2/models/digits/infer", content=body, headers={"x-customer-id": "acme"})
            prediction_id: str = answer.json()["parameters"]["prediction_id"]
            client.post("/v2/feedback", json={"prediction_id": prediction_id, "truth": 3}).raise_for_status()
        until(lambda: len(found(running, prediction_id).get("feedback", [])) == 1, "the feedback is recorded")
        yield running, prediction_id, deleted


def told(code: int, *words: str) -> Result:
    """What the command `gateway trace` prints."""
    ended = CliRunner().invoke(main, ["trace", *words])
    assert ended.exit_code == code, ended.output
    return ended


def near(running: GatewayProcess, *words: str, code: int = 0) -> Result:
    return told(code, *words, "--config", str(running.config))


def far(running: GatewayProcess, *words: str, code: int = 0) -> Result:
    """The same on a machine that has no file of the gateway."""
    return told(code, *words, "--config", "absent.yaml", "--url", running.control_url)


def found(running: GatewayProcess, prediction_id: str) -> dict[str, object]:
    answer: dict[str, object] = httpx.get(f"{running.control_url}{TRACES}/{prediction_id}", timeout=60).json()
    return answer


def genuine(state: Path, signer: Signer | None = None) -> str:
    """An id of the gateway, or of another's signer, of a prediction that nobody has made."""
    signer = signer or token_keys(state).signer()
    decision = Decision(1, Variant.STABLE, "everyone", 7, 50_000, 0.95, False)
    return signer.token(encoded_names("digits", "everyone"), decision, 1, 3, False).decode()


def test_a_trace_over_the_network_is_the_same(traced: Traced, tmp_path: Path) -> None:
    running, prediction_id, _ = traced
    (tmp_path / "own").mkdir()
    manifest = {"kind": "canary-gateway export", "model": "digits", "rows": 12, "content_sha256": CONTENT}
    (tmp_path / "own" / "_manifest.json").write_text(json.dumps(manifest))
    for form in ([], ["--json"], ["--json", "--dataset", str(tmp_path / "own")]):
        there = far(running, prediction_id, *form)
        assert (there.stdout, there.stderr) == (near(running, prediction_id, *form).stdout, "")
    document = json.loads(there.stdout)
    assert (document["record"]["customer"], document["feedback"][0]["truth"]) == ("acme", 3)
    assert (document["versions"][0]["state"], document["versions"][0]["dataset"]["rows"]) == ("intact", 12)
    nothing_is_left(running)


def test_an_id_without_a_record_is_answered_with_what_it_says(traced: Traced) -> None:
    running, _, unknown = traced
    answer = httpx.get(f"{running.control_url}{TRACES}/{unknown}", timeout=60)
    document = answer.json()
    assert (answer.status_code, document["model"], document["record"]) == (404, "digits", None)
    assert document["error"].endswith(document["missing"])
    there, here = far(running, unknown, code=1), near(running, unknown, code=1)
    assert (there.stdout, there.stderr) == (here.stdout, here.stderr)
    assert (
        "says of itself" in there.stdout
        and "cannot be traced to its record: its record has been deleted" in there.stderr
    )


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("p1", "is truncated"),
        ("AAAA", "is not one of a gateway"),
        ("A" * 2000, "must be the text"),
        ("%2e%2e%2fdigits", "is not served here"),
        ("%00", "must be the text"),
    ],
)
def test_what_is_no_id_is_refused_without_a_process(traced: Traced, path: str, says: str) -> None:
    running, _, _ = traced
    refused = httpx.get(f"{running.control_url}{TRACES}/{path}", timeout=60)
    assert refused.status_code == (404 if "served" in says else 400)
    assert says in refused.json()["error"]


def test_an_id_of_another_gateway_is_refused(traced: Traced) -> None:
    running, _, _ = traced
    state = running.config.parent / "state"
    forged = genuine(state, Signer([(0, b"x" * 32)]))
    refused = httpx.get(f"{running.control_url}{TRACES}/{forged}", timeout=60)
    assert refused.status_code == 400
    assert f"it was looked for in {state}: ask the gateway that answered the prediction" in refused.json()["error"]
    there = far(running, forged, code=1)
    assert (there.stdout, there.stderr) == ("", f"{refused.json()['error']}\n")


def test_parameters_and_other_methods_are_refused(traced: Traced) -> None:
    running, prediction_id, _ = traced
    address = f"{running.control_url}{TRACES}/{prediction_id}"
    refused = httpx.get(f"{address}?config=/etc/passwd")
    assert (refused.status_code, "unknown key 'config'" in refused.json()["error"]) == (400, True)
    assert httpx.head(address).status_code == 405


def asked(running: GatewayProcess, name: str, of: str = TRACES) -> socket.socket:
    """A connection on which the trace of an id has been asked for, or what else there is under an address."""
    address = httpx.URL(running.control_url)
    client = socket.create_connection((address.host, address.port), timeout=60)
    client.sendall(f"GET {of}/{name} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    return client


def test_a_client_that_goes_away_ends_the_trace(traced: Traced) -> None:
    running, prediction_id, _ = traced
    with asked(running, prediction_id):
        frozen_job(running)
    nothing_is_left(running)


def test_many_traces_leave_room_for_a_data_set(traced: Traced) -> None:
    running, prediction_id, _ = traced
    with ExitStack() as stack:
        first = stack.enter_context(asked(running, prediction_id))
        job = frozen_job(running)
        others = [stack.enter_context(asked(running, prediction_id)) for _ in range(MAX_TRACES)]
        until(lambda: len(select.select(others, [], [], 0)[0]) == 1, "the refusal of one too many")
        (refused,) = select.select(others, [], [], 0)[0]
        answer = refused.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503") and b"4 traces are being made or sent" in answer
        dataset = stack.enter_context(asked(running, "digits", of="/api/datasets"))
        os.kill(job, signal.SIGCONT)
        for client in (first, dataset):
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 200")
    nothing_is_left(running)


def test_a_killed_process_is_said(traced: Traced) -> None:
    running, prediction_id, _ = traced
    with asked(running, prediction_id) as client:
        os.kill(frozen_job(running), signal.SIGKILL)
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 503") and b"run `gateway trace` where the gateway's state folder is" in answer


def test_a_text_that_no_id_can_be_is_refused_before_anything_is_asked() -> None:
    for text in ("../releases", "a?b", "", "é"):
        assert "must be the text in the prediction's response" in told(1, text, "--url", "http://127.0.0.1:1").stderr
