"""Whenever control is killed, and whatever its workers are doing then, none of them serves beside the next one's."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from loadtests.leftovers import Leftovers
from tests.backends.onnx_models import endless, place
from tests.faults.test_disk import full, roomy
from tests.processes.flawed import command_of, gateway, kill, metric, until, workers
from tests.processes.test_death import gateway_again
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

DRAIN_S = 1
MOMENTS = 8


def started(folder: Path, **settings: Any) -> GatewayProcess:
    return gateway(folder, server={"drain": f"{DRAIN_S}s"}, **settings)


def leftovers_of(running: GatewayProcess) -> Leftovers:
    return Leftovers(running.config.parent / "state", [running.port])


def on_its_memory(running: GatewayProcess) -> set[int]:
    return {pid for pid in leftovers_of(running).processes() if "gateway.worker" in command_of(pid)}


def killed(running: GatewayProcess) -> None:
    assert running.process is not None
    running.process.kill()
    running.process.wait()


def begin(running: GatewayProcess) -> None:
    """The next control, which may not serve yet."""
    running.process = gateway_again(running.config, running.config.parent)


def wait_for_two_workers_only(running: GatewayProcess) -> None:
    """It serves with two workers, and there are no others."""
    until(lambda: running.complete() and on_its_memory(running) == set(workers(running)), "its workers, and no others")
    assert len(workers(running)) == 2


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def has_ended(pid: int) -> bool:
    return state_of(pid) in ("", "Z", "X")


def wait_for_new_worker(running: GatewayProcess, before: list[int]) -> int:
    """The process of a worker that has just been started."""
    end = time.monotonic() + 30
    while not (new := set(workers(running)) - set(before)):
        assert time.monotonic() < end
    return new.pop()


def test_a_worker_that_was_replaced_while_the_disk_was_full_is_found(tmp_path: Path) -> None:
    running = started(tmp_path)
    with running:
        full(running)
        kill(workers(running)[0])
        until(lambda: metric(running, "gateway_worker_restarts_total") == 1 and running.complete(), "a replacement")
        roomy(running)
        killed(running)
        begin(running)
        wait_for_two_workers_only(running)
    assert not leftovers_of(running).after()


def test_a_suspended_worker_is_not_left_to_wake_up_later(tmp_path: Path) -> None:
    running = started(tmp_path)
    with running:
        suspended = workers(running)[1]
        os.kill(suspended, signal.SIGSTOP)
        killed(running)
        begin(running)
        wait_for_two_workers_only(running)
        until(lambda: has_ended(suspended), "its end")  # its memory goes a moment before


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3, 0.6])
def test_a_worker_that_is_suspended_as_it_starts_writes_nothing_on_the_next_ones_memory(
    tmp_path: Path, after_s: float
) -> None:
    running = started(tmp_path)
    with running:
        before = workers(running)
        kill(before[0])
        starting = wait_for_new_worker(running, before)
        time.sleep(after_s)  # it is somewhere between its first import and the models
        os.kill(starting, signal.SIGSTOP)
        killed(running)
        begin(running)
        until(running.complete, "the next control's own workers")
        if not has_ended(starting):  # it had mapped nothing yet
            os.kill(starting, signal.SIGCONT)
        until(lambda: has_ended(starting), "its end")
        wait_for_two_workers_only(running)
        assert metric(running, "gateway_worker_restarts_total") == 0


def test_a_worker_that_loads_without_end_ends_with_its_control(tmp_path: Path) -> None:
    running = started(tmp_path)
    place(tmp_path / "models", "flawed", 2, endless)
    begin(running)
    until(lambda: len(on_its_memory(running)) == 2, "two workers, which load it")
    loading = on_its_memory(running)
    time.sleep(1.0)
    assert not any(has_ended(pid) for pid in loading)
    killed(running)
    until(lambda: all(has_ended(pid) for pid in loading), "their end, with no next control")


def test_told_to_end_before_it_serves_it_ends_the_orphans_too(tmp_path: Path) -> None:
    running = started(tmp_path)
    with running:
        orphaned = workers(running)
        killed(running)
        begin(running)
        until(lambda: set(orphaned) < on_its_memory(running), "workers of the next control")
        assert running.stop() == 0
        until(lambda: all(has_ended(pid) for pid in orphaned), "the end of all")
        assert not leftovers_of(running).after()
        begin(running)
        wait_for_two_workers_only(running)


def test_a_control_that_cannot_start_leaves_the_orphans_to_the_next_one(tmp_path: Path) -> None:
    running = started(tmp_path)
    with running:
        orphaned = workers(running)
        killed(running)
        good = running.config.read_text()
        running.config.write_text(yaml.safe_dump(yaml.safe_load(good) | {"models": {"path": str(tmp_path / "none")}}))
        begin(running)
        assert running.process is not None
        assert running.process.wait(30) != 0
        assert not any(has_ended(pid) for pid in orphaned)
        assert httpx.get(f"{running.url}/v2/health/ready").status_code == 200
        running.config.write_text(good)
        begin(running)
        wait_for_two_workers_only(running)


def test_killed_at_any_moment_of_its_start_control_leaves_no_worker_for_good(tmp_path: Path) -> None:
    running = started(tmp_path)
    with running:
        for moment in range(MOMENTS):
            killed(running)
            begin(running)
            time.sleep(3.0 * moment / MOMENTS)  # from before the first worker to after the last orphan was told to go
        wait_for_two_workers_only(running)
    assert not leftovers_of(running).after()


def test_the_chaos_run_tells_what_is_left_of_a_run_by_its_state_folder(tmp_path: Path) -> None:
    running = started(tmp_path / "a")
    with gateway(tmp_path / "b") as other, running:
        orphaned, theirs = workers(running), workers(other)
        killed(running)
        found = leftovers_of(running).found()
        assert {f"process {pid} ({command_of(pid)})".replace("\0", " ").replace(" )", ")") for pid in orphaned} < set(
            found
        )
        assert any(".switchboard" in line for line in found)
        assert f"a socket on port {running.port}" in found
        leftovers_of(running).end()
        until(lambda: not leftovers_of(running).found(), "nothing is left")
        assert not any(has_ended(pid) for pid in theirs)
        begin(running)
        wait_for_two_workers_only(running)
