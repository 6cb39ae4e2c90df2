"""Predictions that end in the same turn of the event loop: each client gets its own answer, whoever disconnects."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.backends.batch import Answer
from gateway.shm.scoreboard import RECORDED
from gateway.worker.call import Call
from gateway.worker.http.response_batch import ResponseBatch
from gateway.worker.reply import Reply
from loadtests.recorded import Told
from tests.faults.test_overload import until
from tests.processes.recorded import assert_all_are_recorded_once
from tests.running import GatewayProcess
from tests.wire import Wire, doubled, looping_models, post, turns
from tests.worker.test_recorder import Bench, request_body, serving

pytestmark = pytest.mark.slow

TURNS = 40
STAYING = 12
LEAVING = 4
SLOTS = STAYING + LEAVING


def ids(count: int, begin: int) -> list[str]:
    return [str(number) for number in range(begin, begin + count)]


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset])
@pytest.mark.parametrize("model", ["doubling", "looping"])  # on the event loop, and in a thread
def test_disconnecting_clients_do_not_affect_answers_to_others(
    tmp_path: Path, model: str, leave: Callable[[Wire], None]
) -> None:
    def request_of(number: str) -> bytes:
        return doubled(int(number)) if model == "doubling" else post(model, {**turns(100), "id": number})

    told = Told()
    models = looping_models(tmp_path / "models", "looping")
    with GatewayProcess(tmp_path, models, limits={"inflight": SLOTS}) as gateway:
        staying = [Wire(gateway) for _ in range(STAYING)]
        for turn in range(TURNS):
            leaving = [Wire(gateway) for _ in range(LEAVING)]
            numbers = ids(SLOTS, turn * SLOTS)
            for wire, number in zip(staying[::2] + leaving + staying[1::2], numbers, strict=True):
                wire.send(request_of(number))
            for wire in leaving:
                leave(wire)
            mine = numbers[: STAYING // 2] + numbers[-STAYING // 2 :]
            for wire, number in zip(staying[::2] + staying[1::2], mine, strict=True):
                reply = wire.read()
                assert (reply.status, reply.document["id"]) == (200, number)
                told.ids.append(reply.headers["x-prediction-id"])

        def every_slot_is_free() -> bool:
            wires = [Wire(gateway).send(request_of(number)) for number in ids(SLOTS, 0)]
            statuses = [wire.read().status for wire in wires]
            for wire in wires:
                wire.close()
            return statuses == [200] * SLOTS

        until(every_slot_is_free, "every slot to be free again")
        for wire in staying:
            wire.close()
    assert "Traceback" not in gateway.log
    assert_all_are_recorded_once(tmp_path, told)


class Peer:
    """A connection that notes when it is written to, after how many records; `broken`: it fails to send."""

    def __init__(self, bench: Bench, seen: list[str], *, broken: bool = False) -> None:
        self._bench = bench
        self._seen = seen
        self._broken = broken

    def end(self, cycle: str, call: Call, submitted: "asyncio.Future[Answer]") -> Reply:
        self._seen.append(f"end {cycle}")
        return self._bench.gateway.end(call, submitted)

    def send(self, cycle: str, answer: Reply | bytes) -> None:
        self._seen.append(f"send {cycle} after {self._bench.head[RECORDED]}")
        if self._broken:
            raise RuntimeError("no one foresaw this")


def test_batch_is_answered_then_recorded_then_sent_even_if_one_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    with serving(tmp_path) as bench:
        gateway = bench.gateway

        async def together() -> None:
            outbox = ResponseBatch(gateway)
            for cycle, broken in (("a", False), ("b", True), ("c", False)):
                gateway.admit()
                call, submitted = bench.submit(request_body(1))
                peer = Peer(bench, seen, broken=broken)
                submitted.add_done_callback(partial(outbox.put, peer, cycle, call))
            assert gateway.inflight == 3
            async with asyncio.timeout(30):
                while gateway.inflight:
                    await asyncio.sleep(0)

        bench.run(together())
    assert seen == ["end a", "end b", "end c", "send a after 3", "send b after 3", "send c after 3"]
    assert "cannot be sent" in caplog.text
