"""A version in a process of its own: answers, deadlines, deaths on either side, and whose bytes an answer holds."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import uvloop

from gateway.backends.loaded_version import load_version
from gateway.backends.process.client import ProcessBackend
from gateway.backends.process.frames import frame
from gateway.backends.process.link import HELLO
from gateway.backends.process.protocol import GREETING
from gateway.backends.process.start import ProcessStart
from gateway.backends.repository import Repository
from gateway.control.pool.process_template import ProcessTemplate
from gateway.control.pool.version_process import ProcessState
from gateway.control.pool.version_processes import VersionProcesses
from gateway.errors import DeadlineExceeded, InvalidRequest, ModelFailed, ModelUnavailable, ProcessCrashed, ProcessLost
from gateway.messages import NO_PROCESSES
from gateway.settings.gateway import GatewaySettings
from gateway.settings.model import ModelSettings
from gateway.settings.routing import RoutingSettings
from gateway.shm.arena import Arena
from gateway.shm.tally import Tally
from loadtests.mixing import mixed
from tests.backends.onnx_models import doubling, endless, gathering, looping, needs_trap, place, trapping

PATIENCE_S = 30.0
POSITIVE = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6, 7, 8]}]}
CANDIDATE = RoutingSettings.model_validate({"models": {"m": {"stable": 1, "candidate": 2}}})


class Processes:
    """The process of candidate 2 of 'm', and what control has heard of its deaths."""

    def __init__(self, repository: Path) -> None:
        self.deaths: list[str] = []
        settings = GatewaySettings()
        self.all = VersionProcesses(Repository(repository), "test", settings, lambda _, why: self.deaths.append(why))
        self.sockets = NO_PROCESSES
        self.backends: list[ProcessBackend] = []

    async def start(self) -> None:
        self.sockets, failed = await self.all.prepare(CANDIDATE)
        assert failed == {}

    @property
    def pid(self) -> int:
        (process,) = self.all
        assert process.pid is not None
        return process.pid

    async def ready(self) -> None:
        (process,) = self.all
        async with asyncio.timeout(PATIENCE_S):
            while process.state is not ProcessState.READY:
                await asyncio.sleep(0.01)

    async def backend(self, *, patient: bool = False) -> ProcessBackend:
        backend = ProcessBackend(self.sockets.versions["m", 2], Tally(), patient=patient)
        await backend.start(PATIENCE_S)
        self.backends.append(backend)
        return backend

    async def close(self) -> None:
        for backend in self.backends:
            backend.abandon()
            backend._close()
        await self.all.close(PATIENCE_S)

    async def connected(self, backend: ProcessBackend) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not backend.spare:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def processes(folder: Path, make: Callable[[Path], Path], yaml: str = "") -> AsyncIterator[Processes]:
    for version in (1, 2):
        place(folder, "m", version, make)
    (folder / "m" / "model.yaml").write_text(yaml)
    found = Processes(folder)
    await found.start()
    try:
        yield found
    finally:
        await found.close()


def on_uvloop(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def soon_ns(s: float = PATIENCE_S) -> int:
    return time.monotonic_ns() + int(s * 1e9)


def test_answers_errors_and_batches_of_several_workers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, gathering) as found:
            backends = [await found.backend() for _ in range(3)]
            asked = [(one, row) for row in range(4) for one in backends]
            items = [one.submit({"i": np.array([row])}, soon_ns()) for one, row in asked]
            answers = await asyncio.gather(*items)
            for (_, row), answer in zip(asked, answers, strict=True):
                assert answer[0] is not None
                assert answer[0].tolist() == [[2 * row, 2 * row + 1]]
            with pytest.raises(InvalidRequest, match="rejects"):
                await backends[0].submit({"i": np.array([9])}, soon_ns())
            assert all(one.idle for one in backends)

    on_uvloop(scenario())


def test_facts_are_those_of_the_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, doubling) as found:
            facts = (await found.backend()).facts
            assert [spec.name for spec in facts.signature.inputs] == ["x"]
            assert facts.providers == ("CPUExecutionProvider",)
            assert len(facts.sha256) == 64
            assert facts.rules.max_rows > 1

    on_uvloop(scenario())


def test_deadline_ends_the_call_and_the_next_one_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, looping) as found:
            backend = await found.backend()
            began_s = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await backend.submit({"x": np.array([2**62])}, soon_ns(0.1))
            assert time.monotonic() - began_s < 5
            answer = await backend.submit({"x": np.array([5])}, soon_ns())
            assert answer[0] is not None
            assert answer[0].tolist() == [5]
            assert found.deaths == []

    on_uvloop(scenario())


def test_cancelled_call_gives_its_memory_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, looping) as found:
            backend = await found.backend()
            item = backend.submit({"x": np.array([2**62])}, soon_ns())
            await asyncio.sleep(0.1)
            item.cancel()
            async with asyncio.timeout(PATIENCE_S):
                while backend._arena.taken:
                    await asyncio.sleep(0.01)

    on_uvloop(scenario())


@pytest.mark.parametrize("patient", [True, False])
def test_calls_that_have_not_been_sent_when_the_process_dies_were_not_in_it(tmp_path: Path, patient: bool) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, doubling) as found:
            backend = await found.backend(patient=patient)
            items = [backend.submit({"x": np.ones((1, 2), np.float32)}, soon_ns()) for _ in range(3)]
            assert backend._link is not None
            backend._link.close()
            await asyncio.wait(items)
            if patient:
                assert [item.losses for item in items] == [0, 0, 0]
                assert all(not item.exception() for item in items)
            else:
                assert {type(item.exception()) for item in items} == {ProcessLost}

    on_uvloop(scenario())


def test_killed_process_fails_its_calls_at_once_and_its_successor_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, looping) as found:
            backend = await found.backend()
            items = [backend.submit({"x": np.array([2**62])}, soon_ns()) for _ in range(8)]
            await asyncio.sleep(0.1)
            os.kill(found.pid, signal.SIGKILL)
            done, _ = await asyncio.wait(items, timeout=5)
            assert len(done) == 8
            assert all(isinstance(item.exception(), ProcessCrashed) for item in items)
            with pytest.raises(ProcessLost):
                await backend.submit({"x": np.array([1])}, soon_ns())
            await found.ready()
            await found.connected(backend)
            answer = await backend.submit({"x": np.array([3])}, soon_ns())
            assert answer[0] is not None
            assert answer[0].tolist() == [3]
            assert found.deaths == ["died by SIGKILL"]

    on_uvloop(scenario())


@pytest.mark.slow
@needs_trap
def test_stable_tries_calls_once_more_each_alone_and_only_the_one_that_kills_fails(tmp_path: Path) -> None:
    async def scenario() -> None:
        place(tmp_path, "m", 2, trapping)
        (tmp_path / "m" / "warmup.json").write_text(json.dumps(POSITIVE))
        async with processes(tmp_path, trapping, "batching: off\n") as found:
            backend = await found.backend(patient=True)
            values = [1.0, 2.0, 3.0, -1.0, 4.0, 5.0]  # a value below 0 ends the process
            items = [backend.submit({"x": np.full((1, 4), value, np.float32)}, soon_ns(60)) for value in values]
            await asyncio.wait(items, timeout=60)
            for value, item in zip(values, items, strict=True):
                if value < 0:
                    assert isinstance(item.exception(), ModelFailed)
                else:
                    (answer,) = item.result()
                    assert answer is not None
                    assert answer.tolist() == [[2 * value] * 4]
            assert len(found.deaths) == 2

    on_uvloop(scenario())


@pytest.mark.slow
def test_process_takes_no_more_memory_than_allowed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, doubling, "memory: 1MiB\n") as found:
            async with asyncio.timeout(PATIENCE_S):
                while not found.deaths:
                    found.all.tick()
                    await asyncio.sleep(0.05)
            assert "more memory than model.yaml allows" in found.deaths[0]

    on_uvloop(scenario())


@pytest.mark.slow
def test_suspended_process_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, doubling) as found:
            backend = await found.backend()
            found.all._timeout_s = 1.0
            os.kill(found.pid, signal.SIGSTOP)
            with pytest.raises(DeadlineExceeded):
                await backend.submit({"x": np.ones((1, 2), np.float32)}, soon_ns(0.2))
            async with asyncio.timeout(PATIENCE_S):
                while not found.deaths:
                    found.all.tick()
                    await asyncio.sleep(0.05)
            assert "no sign of life" in found.deaths[0]
            await found.ready()
            await found.connected(backend)
            await backend.submit({"x": np.ones((1, 2), np.float32)}, soon_ns())

    on_uvloop(scenario())


def test_version_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        for version in (1, 2):
            place(tmp_path, "m", version, doubling)
        (tmp_path / "m" / "2" / "model.onnx").write_bytes(b"no model")
        found = Processes(tmp_path)
        found.sockets, failed = await found.all.prepare(CANDIDATE)
        assert "ONNX Runtime cannot load it" in failed["m", 2]
        with pytest.raises(ModelUnavailable, match="ONNX Runtime cannot load it"):
            await found.backend()
        await found.close()

    on_uvloop(scenario())


@pytest.mark.slow
def test_process_that_loads_without_end_ends_with_control(tmp_path: Path) -> None:
    async def scenario() -> None:
        place(tmp_path, "m", 1, endless)
        template = ProcessTemplate()
        ours, theirs = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as listening, ours:
            listening.bind(str(tmp_path / "socket"))
            listening.listen()
            with theirs:
                start = ProcessStart(str(tmp_path), "m", 1, checked=True, behind=True, first_to_go=True)
                process = await template.fork(start, listening.fileno(), theirs.fileno())
            done, _ = await asyncio.wait([process.ended], timeout=5)
            assert not done
        done, _ = await asyncio.wait([process.ended], timeout=20)
        process.kill()
        assert done
        assert process.ended.result() == 0
        await template.close()

    on_uvloop(scenario())


def test_template_that_dies_is_started_again_and_its_processes_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, doubling) as found:
            backend = await found.backend()
            template = found.all._template._template
            assert template is not None
            template.kill()
            await asyncio.to_thread(template.wait)
            x = np.ones((1, 2), np.float32)
            await backend.submit({"x": x}, soon_ns())
            os.kill(found.pid, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE_S):
                while not found.deaths:
                    await asyncio.sleep(0.01)
            await found.ready()
            await found.connected(backend)
            await backend.submit({"x": x}, soon_ns())

    on_uvloop(scenario())


@pytest.mark.slow
def test_changed_file_is_not_taken_for_what_was_loaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with processes(tmp_path, doubling) as found:
            backend = await found.backend()
            gathering(tmp_path / "m" / "2" / "model.onnx")
            os.kill(found.pid, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE_S):
                while not found.deaths:
                    await asyncio.sleep(0.01)
            await found.ready()
            await asyncio.sleep(0.5)
            with pytest.raises(ProcessLost):
                await backend.submit({"x": np.ones((1, 2), np.float32)}, soon_ns())

    on_uvloop(scenario())


def test_connection_that_ends_with_its_greeting_is_made_again(tmp_path: Path) -> None:
    """A process may die as soon as it has described its version."""

    async def scenario() -> None:
        loaded = load_version(place(tmp_path, "m", 1, doubling), ModelSettings(), tmp_path / "none")
        arena, made = Arena(), 0

        async def greet(listening: socket.socket) -> socket.socket:
            nonlocal made
            while True:
                peer, _ = await asyncio.get_running_loop().sock_accept(listening)
                made += 1
                socket.send_fds(peer, [HELLO], [arena.file])
                await asyncio.sleep(0.05)
                peer.send(frame(GREETING, 0, orjson.dumps(loaded.dump())))
                if made == 3:
                    return peer
                peer.close()

        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket"))
            listening.listen()
            listening.setblocking(False)
            backend = ProcessBackend(str(tmp_path / "socket"), Tally(), patient=False)
            backend.connect_later(loaded)
            async with asyncio.timeout(PATIENCE_S):
                with await greet(listening):
                    while not backend.connected:
                        await asyncio.sleep(0.01)
                    assert made == 3
                    backend._close()
        arena.close()

    on_uvloop(scenario())


@pytest.mark.slow
def test_no_answer_holds_the_bytes_of_another_call(tmp_path: Path) -> None:
    """Four askers, random deadlines, and both sides suspended and killed at random; `loadtests mixing` asks more."""

    async def scenario() -> None:
        async with processes(tmp_path, doubling) as found:
            seen = await mixed(found.all, found.sockets.versions["m", 2], 40_000, 11, 0.15)
            assert seen.wrong == ""
            assert seen.answered + seen.failed == 40_000 // 32 * 32
            assert seen.answered > 1000
            assert found.deaths

    on_uvloop(scenario())
