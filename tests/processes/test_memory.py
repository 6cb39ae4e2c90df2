"""Memory files of a killed gateway are kept for its state folder, and for no other."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from gateway.shm.claim import former_name, memory_path
from gateway.shm.owner import ID_FILE, RING, files_of
from gateway.shm.segment import memory_folder
from loadtests.client import Client
from loadtests.recorded import Told
from tests.processes.flawed import gateway, requests, until
from tests.processes.recorded import assert_all_are_recorded_once, records
from tests.processes.test_death import gateway_again
from tests.processes.test_records import killed
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

CONNECTIONS = 16
DAY_S = 86400.0
SERVE = (sys.executable, "-m", "gateway", "serve", "--config")


def remaining_rings(running: GatewayProcess) -> list[Path]:
    """The rings of its state folder that are left."""
    return [path for path in files_of(memory_path(state(running)).name) if path.suffix == RING]


def state(running: GatewayProcess) -> Path:
    return running.config.parent / "state"


def answer(running: GatewayProcess, told: Told) -> None:
    """Make predictions, then kill everything while some of their records are only in memory."""
    with Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0), reconnect=True) as client:
        client.keep_busy(0.3, told)
        killed(running)
    assert remaining_rings(running)


def start_new_gateway(running: GatewayProcess) -> None:
    running.process = gateway_again(running.config, running.config.parent)
    until(running.complete, "a new gateway on the same state")


@pytest.mark.parametrize("days", [-30, -20_000, 2_000], ids=["a month old", "of 1970", "of years ahead"])
def test_records_in_memory_are_adopted_however_old_the_files_are(tmp_path: Path, days: float) -> None:
    running, told = gateway(tmp_path / "killed"), Told()
    with running:
        answer(running, told)
        moment = max(0.0, time.time() + days * DAY_S)
        for path in files_of(memory_path(state(running)).name):
            os.utime(path, (moment, moment))
        with gateway(tmp_path / "another"):
            pass
        start_new_gateway(running)
    assert_all_are_recorded_once(tmp_path / "killed", told)
    assert not list(memory_folder().glob(f"{memory_path(state(running)).name}*"))


def test_copied_state_folder_is_refused_and_the_stated_remedy_works(tmp_path: Path) -> None:
    running, told = gateway(tmp_path / "first"), Told()
    copy = gateway(tmp_path / "copy")
    with running, Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0), reconnect=True) as client:
        client.keep_busy(0.3, told)
        shutil.copytree(state(running), state(copy))
        refused = subprocess.run(
            [*SERVE, str(copy.config)], capture_output=True, text=True, env=os.environ | {"COLUMNS": "2000"}
        )
        assert refused.returncode == 1
        for said in (str(state(running)), str(state(copy)), f"process {running.pid}", ID_FILE):
            assert said in " ".join(refused.stderr.split()).replace(" ", "") or said in refused.stderr
        (state(copy) / ID_FILE).unlink()
        with copy:
            theirs = httpx.post(f"{copy.url}/v2/models/flawed/infer", json=body()).headers["x-prediction-id"]
            client.keep_busy(0.3, told)
    assert_all_are_recorded_once(tmp_path / "first", told)
    assert theirs not in {record["prediction_id"] for record in records(tmp_path / "first")}
    assert theirs in {record["prediction_id"] for record in records(tmp_path / "copy")}


def body() -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 1.0, 2.0, 3.0]}]}


def test_memory_of_the_previous_version_is_adopted(tmp_path: Path) -> None:
    running, told = gateway(tmp_path), Told()
    with running:
        answer(running, told)
        former, name = former_name(state(running)), memory_path(state(running)).name
        for path in memory_folder().glob(f"{name}.*"):
            path.rename(path.with_name(path.name.replace(name, former)))
        (memory_folder() / f"{former}.owner").unlink()
        (state(running) / ID_FILE).unlink()
        start_new_gateway(running)
    assert_all_are_recorded_once(tmp_path, told)
    for path in memory_folder().glob(f"{former}.*"):
        assert path.suffix != RING
        path.unlink()


def test_lost_id_file_loses_no_record(tmp_path: Path) -> None:
    running, told = gateway(tmp_path), Told()
    with running:
        answer(running, told)
        (state(running) / ID_FILE).unlink()
        start_new_gateway(running)
    assert_all_are_recorded_once(tmp_path, told)
