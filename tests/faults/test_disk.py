"""A full, read-only, missing or slow disk: predictions are unaffected, and every lost record is counted."""

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway.control.record_writer.writer import SMALL_CHUNK_BYTES
from loadtests.client import Client
from loadtests.recorded import Told
from tests.processes.flawed import body, gateway, metric, requests, until
from tests.processes.recorded import feedback, records
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

CONNECTIONS = 8
PAGE = 4096
FLAWED = "/v2/models/flawed/infer"
RING = 1 << 20  # drained 50 times a second, it holds what this client sends in between
SINK_BYTES_PER_S = 10_000
SLOW = f"""
import os, sys, time
if "serve" in sys.argv:
    pwrite = os.pwrite

    def slow(file, data, offset):
        part = memoryview(data)[:500]
        time.sleep(len(part) / {SINK_BYTES_PER_S})
        return pwrite(file, part, offset)

    os.pwrite = slow
"""
Break = Callable[[GatewayProcess], None]


def full(running: GatewayProcess) -> None:
    """Allow no file of the control process to grow by another byte."""
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def roomy(running: GatewayProcess) -> None:
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def folder(running: GatewayProcess) -> Path:
    return running.config.parent / "state" / "records"


def replaced_by_a_file(running: GatewayProcess) -> None:
    """Move the records aside and put a file in their place."""
    folder(running).rename(folder(running).with_name("put-aside"))
    folder(running).write_bytes(b"not a folder")


def folder_again(running: GatewayProcess) -> None:
    folder(running).unlink()
    folder(running).with_name("put-aside").rename(folder(running))


def small(tmp_path: Path, **records: object) -> GatewayProcess:
    """A gateway with small rings that fill up quickly."""
    return gateway(tmp_path, records={"ring": RING, **records})


def load(running: GatewayProcess) -> Client:
    return Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0))


def dropped(running: GatewayProcess) -> float:
    return metric(running, "gateway_records_dropped_total", kind="prediction")


def written(running: GatewayProcess) -> float:
    return metric(running, "gateway_records_written_total", kind="prediction")


def fill(running: GatewayProcess, client: Client, told: Told) -> None:
    """Send until records are dropped."""
    for _ in range(100):
        client.keep_busy(0.1, told)
        if dropped(running):
            return
    raise AssertionError("nothing is dropped")


def trouble(running: GatewayProcess) -> str | None:
    error: str | None = httpx.get(f"{running.control_url}/api/config").json()["records"]["error"]
    return error


@pytest.mark.parametrize(
    ("break_it", "mend_it", "says"),
    [(full, roomy, "File too large"), (replaced_by_a_file, folder_again, "File exists")],
    ids=["full", "a file in its place"],
)
def test_broken_disk_stops_no_prediction_and_records_are_counted(
    tmp_path: Path, break_it: Break, mend_it: Break, says: str
) -> None:
    told = Told()
    with small(tmp_path) as running:
        with load(running) as client:
            client.keep_busy(0.2, told)
            until(lambda: written(running) + dropped(running) == len(told.ids), "the first are drained")
            break_it(running)
            try:
                fill(running, client, told)
                until(lambda: says in (trouble(running) or ""), "the API says what is wrong")
            finally:
                mend_it(running)
            until(lambda: trouble(running) is None, "it has recovered by itself")
            until(lambda: written(running) + dropped(running) == len(told.ids), "the rings are empty")
            before = written(running)
            client.keep_busy(0.2, told)
        assert not told.failures
        until(lambda: written(running) + dropped(running) == len(told.ids), "the last are drained")
        assert written(running) > before
        lost = dropped(running)
    found = [record["prediction_id"] for record in records(tmp_path)]
    assert len(found) == len(set(found)) == len(told.ids) - lost
    assert set(found) <= set(told.ids)


def test_gateway_starts_where_the_records_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "records").write_bytes(b"not a folder")
    told = Told()
    with small(tmp_path) as running:
        with load(running) as client:
            fill(running, client, told)
        (tmp_path / "state" / "records").unlink()
        until(lambda: written(running) + dropped(running) == len(told.ids), "it has recovered by itself")
        assert not told.failures
        lost = dropped(running)
    assert len(records(tmp_path)) == len(told.ids) - lost


def test_deleted_records_are_lost_and_later_ones_are_kept(tmp_path: Path) -> None:
    told = Told()
    with small(tmp_path) as running:
        with load(running) as client:
            client.keep_busy(0.1, told)
            until(lambda: written(running) == len(told.ids), "all is drained")
            shutil.rmtree(folder(running))
            before = len(told.ids)
            client.keep_busy(0.1, told)
        until(lambda: written(running) == len(told.ids), "all is drained again")
        assert not told.failures
    assert {record["prediction_id"] for record in records(tmp_path)} == set(told.ids[before:])


@contextmanager
def tmpfs(path: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A file system of `size` bytes; yields a function that enlarges it."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield lambda larger: _run("mount", "-o", f"remount,size={larger}", str(path))
    finally:
        _run("umount", "-l", str(path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def test_full_disk_loses_no_record_uncounted(tmp_path: Path) -> None:
    told, size = Told(), 256 * 1024
    with tmpfs(tmp_path / "state" / "records", size) as grow:
        with small(tmp_path, segment=100_000) as running:
            with load(running) as client:
                fill(running, client, told)
                until(lambda: "No space left on device" in (trouble(running) or ""), "the disk is full")
                sizes = [path.stat().st_size for path in folder(running).iterdir()]
                assert size - SMALL_CHUNK_BYTES - PAGE * len(sizes) < sum(sizes) <= size, "the next piece does not fit"
                grow(64 << 20)
                client.keep_busy(0.2, told)
            assert not told.failures
            until(lambda: written(running) + dropped(running) == len(told.ids), "it has recovered by itself")
            lost = dropped(running)
        found = [record["prediction_id"] for record in records(tmp_path)]
    assert len(found) == len(set(found)) == len(told.ids) - lost
    assert set(found) <= set(told.ids)


def test_feedback_is_refused_when_it_cannot_be_recorded(tmp_path: Path) -> None:
    with small(tmp_path) as running, httpx.Client(base_url=running.url, timeout=30) as client:
        answer = client.post(FLAWED, content=body(1.0))
        said = {"prediction_id": answer.headers["x-prediction-id"], "comment": "x" * 9000}
        full(running)
        accepted, sent = 0, 0
        for sent in range(400):
            answer = client.post("/v2/feedback", json={**said, "reward": sent})
            if answer.status_code == 503:
                break
            assert answer.status_code == 202
            accepted += 1
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert accepted > 50, "as much as a ring holds"
        assert metric(running, "gateway_records_dropped_total", kind="feedback") == 1
        roomy(running)
        until(lambda: client.post("/v2/feedback", json={**said, "reward": -1}).status_code == 202, "it is taken again")
    rewards = [record["reward"] for record in feedback(tmp_path)]
    assert rewards == [*range(accepted), -1], "all that was accepted, and nothing else"


def test_slow_disk_loses_no_record_uncounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = Told()
    with small(tmp_path) as running:
        with load(running) as client:
            fill(running, client, told)
            client.keep_busy(0.5, told)
        assert not told.failures
        lost = dropped(running)
        assert lost > 0
        assert trouble(running) is None, "slow is not broken"
        until(lambda: httpx.get(f"{running.control_url}/health").status_code == 200, "control is not held up")
        running.stop()  # it is given some seconds, then what is left waits in memory
    monkeypatch.delenv("PYTHONPATH")
    with running:
        pass  # and the next start writes it
    found = [record["prediction_id"] for record in records(tmp_path)]
    assert len(found) == len(set(found)) == len(told.ids) - lost
    assert set(found) <= set(told.ids)


def test_when_full_refuse_refuses_requests_and_loses_no_record(tmp_path: Path) -> None:
    told = Told()
    with small(tmp_path, when_full="refuse") as running:
        with load(running) as client:
            client.keep_busy(0.2, told)
            assert not told.failures
            full(running)
            for _ in range(100):
                client.keep_busy(0.1, told)
                if told.failures:
                    break
            assert [failure[:3] for failure in told.failures] == ["503"]
            assert "records.when_full: refuse" in next(iter(told.failures))
            refused = sum(told.failures.values())
            assert metric(running, "gateway_shed_total", reason="records") == refused
            roomy(running)
            until(lambda: written(running) == len(told.ids), "every prediction that was answered")
            client.keep_busy(0.2, told)
        assert sum(told.failures.values()) == refused, "it has recovered by itself"
        assert dropped(running) == 0
        answer = httpx.post(f"{running.url}{FLAWED}", content=body(1.0).replace(b"{", b"{" + b" " * RING, 1))
        assert answer.status_code == 413
        assert "records.ring" in answer.json()["error"]
    assert sorted(record["prediction_id"] for record in records(tmp_path)) == sorted(told.ids)


def test_record_larger_than_the_ring_is_counted_as_too_large(tmp_path: Path) -> None:
    with small(tmp_path) as running:
        large = body(1.0).replace(b"{", b"{" + b" " * RING, 1)
        assert httpx.post(f"{running.url}{FLAWED}", content=large).status_code == 200
        assert metric(running, "gateway_records_dropped_total", kind="prediction", reason="too_large") == 1
        assert metric(running, "gateway_records_dropped_total", kind="prediction", reason="full") == 0
    assert records(tmp_path) == []


def test_large_body_is_served_where_inputs_are_not_recorded(tmp_path: Path) -> None:
    with small(tmp_path, inputs="none", when_full="refuse") as running:
        large = body(1.0).replace(b"{", b"{" + b" " * RING, 1)
        assert httpx.post(f"{running.url}{FLAWED}", content=large).status_code == 200
    assert len(records(tmp_path)) == 1
