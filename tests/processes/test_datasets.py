"""Data sets and analyses over the network, made by a process of their own, which never outlives its use."""

import contextlib
import json
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from gateway.control.records_jobs import FOLDER, MAX_ADMITTED
from tests.offline.dataset.test_commands import command
from tests.offline.dataset.test_sameness import files
from tests.processes.flawed import children, command_of, until
from tests.recording import MODELS, Recording, data, json_request
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

ROWS = 40
DATASET = "/api/datasets/digits"
JOB = "gateway.offline.job"
TIMES = ("--since", "2026-11-18", "--until", "2026-11-19", "--feedback-until", "2026-11-18T12:00:30")
JUDGED = 14  # until that time
FORMS = (("--with-feedback",), ("--flat", "--format", "csv"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with records."""
    with gateway(tmp_path_factory.mktemp("gateway")) as process:
        yield process


def gateway(folder: Path) -> GatewayProcess:
    recording = Recording()
    for number in range(ROWS):
        row, truth = data("digits").test_x[number], int(data("digits").test_y[number])
        recording.judge(recording.predict(json_request("digits", row[None])), truth)
    recording.save(folder / "state" / "records")
    return GatewayProcess(folder, MODELS)


def asked(running: GatewayProcess) -> socket.socket:
    """A connection on which a data set has been asked for."""
    address = httpx.URL(running.control_url)
    connection = socket.create_connection((address.host, address.port), timeout=60)
    connection.sendall(f"GET {DATASET} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return connection


def jobs_of(pid: int) -> list[int]:
    """The processes that make something for the gateway."""
    return [child for child in children(pid) if is_job(child)]


def is_job(pid: int) -> bool:
    return JOB in command_of(pid)


def frozen_job(running: GatewayProcess) -> int:
    """The process that makes the data set; it gets no further."""
    until(lambda: bool(jobs_of(running.pid)), "a job's process")
    (job,) = jobs_of(running.pid)
    os.kill(job, signal.SIGSTOP)
    return job


def folders_of(running: GatewayProcess) -> list[Path]:
    jobs = running.config.parent / "state" / FOLDER
    return list(jobs.iterdir()) if jobs.is_dir() else []


def nothing_is_left(running: GatewayProcess) -> None:
    until(lambda: not jobs_of(running.pid), "the end of the job's process")
    until(lambda: not folders_of(running), "the removal of the job's folder")


def test_data_set_over_the_network_has_the_same_bytes(running: GatewayProcess, tmp_path: Path) -> None:
    for form in FORMS:
        export = ("export", "digits", *TIMES, *form, "--out")
        command(running.config, *export, str(tmp_path / "near"))
        command(tmp_path / "absent.yaml", *export, str(tmp_path / "far"), "--url", running.control_url)
        assert files(tmp_path / "far") == files(tmp_path / "near")
    assert json.loads(files(tmp_path / "far")["_manifest.json"])["rows_with_feedback"] == JUDGED
    command(tmp_path / "absent.yaml", "export", "digits", "--out", str(tmp_path / "far"), "--url", running.control_url)
    query = json.loads(files(tmp_path / "far")["_manifest.json"])["query"]
    assert query["until"] == query["feedback_until"] is not None
    nothing_is_left(running)


def test_analysis_over_the_network_is_the_same(running: GatewayProcess, tmp_path: Path) -> None:
    far = (*TIMES, "--url", running.control_url)
    near = json.loads(command(running.config, "analyze", "digits", *TIMES, "--json").stdout)
    assert json.loads(command(tmp_path / "absent.yaml", "analyze", "digits", *far, "--json").stdout) == near
    assert near["wrong"]["count"] == JUDGED
    page = tmp_path / "report.html"
    shown = command(tmp_path / "absent.yaml", "analyze", "digits", *far, "--html", str(page)).stdout
    assert "digits: error analysis" in shown
    assert page.read_text().startswith("<!doctype html>")
    answer = httpx.get(f"{running.control_url}/api/analyses/digits?format=html", timeout=60)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


LONG = "a" * 300


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        (f"{DATASET}?since=noon", 400, "is neither a time nor a duration"),
        (f"{DATASET}?since=0001-01-01", 400, "is before 1970"),
        (f"{DATASET}?since=1000000d", 400, "is before 1970"),
        (f"{DATASET}?since=1h&since=2h", 400, "'since' is given more than once"),
        ("/api/datasets/%C3%BC", 404, "'ü' is no model's name"),
        ("/api/datasets/%00", 404, "is no model's name"),
        ("/api/datasets/%2e%2e", 404, "'..' is no model's name"),
        (f"/api/analyses/{LONG}", 404, "is no model's name"),
        (f"{DATASET}?format=csv", 400, "export it flat"),
        (f"{DATASET}?feedback=1", 400, "unknown key 'feedback'"),
        ("/api/datasets/absent", 404, "no recorded prediction of 'absent'"),
        ("/api/analyses/absent?format=html", 404, "no recorded prediction of 'absent'"),
    ],
)
def test_refusal_says_why(running: GatewayProcess, path: str, status: int, says: str) -> None:
    refused = httpx.get(f"{running.control_url}{path}", timeout=60)
    assert refused.status_code == status
    assert says in refused.json()["error"]


def test_far_end_is_no_error(running: GatewayProcess) -> None:
    answer = httpx.get(f"{running.control_url}{DATASET}?until=9999-12-31&format=jsonl", timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
    assert b'"until": "2262-04-11' in answer.content


def test_head_makes_nothing(running: GatewayProcess) -> None:
    answer = httpx.head(f"{running.control_url}{DATASET}", timeout=60)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_commands_need_no_file_with_url(running: GatewayProcess, tmp_path: Path) -> None:
    far = ("--url", running.control_url)
    assert "digits" in command(tmp_path / "absent.yaml", "status", "digits", *far).stdout
    ended = command(tmp_path / "absent.yaml", "stop", "digits", *far, code=1)
    assert "has no candidate" in ended.stderr


def test_client_that_goes_away_ends_the_job(running: GatewayProcess) -> None:
    with asked(running):
        frozen_job(running)
    nothing_is_left(running)


def test_clients_beyond_the_limit_are_told_when_to_come_again(running: GatewayProcess) -> None:
    beyond = 4
    with ExitStack() as stack:
        first = stack.enter_context(asked(running))
        frozen_job(running)
        others = [stack.enter_context(asked(running)) for _ in range(MAX_ADMITTED - 1 + beyond)]
        until(lambda: len(select.select([first, *others], [], [], 0)[0]) == beyond, "the refusals")
        for refused in select.select(others, [], [], 0)[0]:
            answer = refused.recv(4096)
            assert answer.startswith(b"HTTP/1.1 503") and b"\r\nretry-after: 10\r\n" in answer
        assert len(jobs_of(running.pid)) == 1
        assert httpx.get(f"{running.control_url}/api/releases/digits").status_code == 200
    nothing_is_left(running)


def test_killed_control_leaves_no_job_and_the_next_start_no_folder(tmp_path: Path) -> None:
    first = gateway(tmp_path)
    with contextlib.suppress(AssertionError), first:  # it does not end by itself
        with asked(first):
            job = frozen_job(first)
            (tmp_path / "state" / FOLDER / "left").mkdir(parents=True, exist_ok=True)
            assert first.process is not None
            first.process.kill()
            first.process.wait()
        os.kill(job, signal.SIGCONT)
        until(lambda: not is_job(job), "the end of the job")
    assert not is_job(job)
    with GatewayProcess(tmp_path, MODELS) as second:
        until(lambda: not folders_of(second), "the removal of what was left")


def test_end_amid_a_job_is_said_to_its_client_and_is_no_error(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        with asked(running) as client:
            frozen_job(running)
            os.kill(running.pid, signal.SIGTERM)
            assert client.recv(4096).startswith(b"HTTP/1.1 503")
        assert running.process is not None
        assert running.process.wait(60) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_full_disk_is_said(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for path in (DATASET, "/api/analyses/digits"):
            refused = httpx.get(f"{running.control_url}{path}", timeout=60)
            assert refused.status_code == 503, refused.text
            assert "state folder cannot be written" in refused.json()["error"]
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert httpx.get(f"{running.control_url}{DATASET}", timeout=60).status_code == 200
        nothing_is_left(running)
