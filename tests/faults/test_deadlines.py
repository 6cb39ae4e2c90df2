"""A request past its deadline is answered 504 at once, its run is terminated, and the model keeps serving."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_overload import FOR_EVER, LONG_TURNS, ask, until
from tests.running import GatewayProcess
from tests.wire import SMALL_BODY, Reply, Wire, get, looping_models, post, row, turns

CONFIGURED_S = 0.3
SOON_US = 100_000
LATE_US = 60_000_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("deadlines")
    models = looping_models(folder / "models", "slow", "two")
    (models / "two" / "model.yaml").write_text("concurrency: 2\n")
    with GatewayProcess(folder, models, limits={"timeout": f"{CONFIGURED_S * 1000:g}ms"}) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


def too_late(reply: Reply) -> bool:
    if reply.status != 504:
        return False
    assert reply.headers["content-type"] == "application/json"
    assert "deadline" in reply.document["error"]
    return True


def counted(reply: Reply, count: int) -> bool:
    return reply.status == 200 and reply.document["outputs"][0]["data"] == [count]


def test_deadline_of_the_request_is_kept(gateway: GatewayProcess) -> None:
    assert too_late(ask(gateway, post("slow", turns(FOR_EVER, timeout=SOON_US))))


def test_configured_deadline_is_kept(gateway: GatewayProcess) -> None:
    assert too_late(ask(gateway, post("slow", turns(FOR_EVER))))
    assert too_late(ask(gateway, post("slow", turns(FOR_EVER, timeout=None)))), "null asks for nothing"


def test_request_may_ask_for_more_time_than_configured(gateway: GatewayProcess) -> None:
    assert counted(ask(gateway, post("slow", turns(LONG_TURNS, timeout=LATE_US))), LONG_TURNS)


def test_largest_possible_timeout_is_accepted(gateway: GatewayProcess) -> None:
    assert counted(ask(gateway, post("slow", turns(5, timeout=2**63 - 1))), 5)


@pytest.mark.parametrize("pad", [0, 2 * SMALL_BODY], ids=["short", "large"])
def test_model_and_connection_serve_on_after_a_timeout(gateway: GatewayProcess, pad: int) -> None:
    with Wire(gateway) as wire:
        for _ in range(3):
            assert too_late(wire.send(post("slow", turns(FOR_EVER, timeout=SOON_US), pad=pad)).read())
            assert counted(wire.send(post("slow", turns(7, timeout=LATE_US), pad=pad)).read(), 7)


def test_pipelined_request_behind_a_timeout_is_answered(gateway: GatewayProcess) -> None:
    with Wire(gateway) as wire:
        wire.send(post("slow", turns(FOR_EVER, timeout=SOON_US)) + post("slow", turns(3, timeout=LATE_US)) + get("/v2"))
        assert too_late(wire.read())
        assert counted(wire.read(), 3)
        assert wire.read().status == 200


def test_request_may_time_out_while_it_is_queued(gateway: GatewayProcess) -> None:
    with Wire(gateway) as running, Wire(gateway) as waiting:
        running.send(post("slow", turns(LONG_TURNS, timeout=LATE_US)))
        assert too_late(waiting.send(post("slow", turns(1, timeout=1))).read())
        assert counted(running.read(), LONG_TURNS), "it is not ended for another's deadline"
        assert counted(waiting.send(post("slow", turns(1, timeout=LATE_US))).read(), 1)


def test_only_the_late_one_of_two_concurrent_runs_is_terminated(gateway: GatewayProcess) -> None:
    with Wire(gateway) as late, Wire(gateway) as other:
        late.send(post("two", turns(FOR_EVER, timeout=SOON_US)))
        other.send(post("two", turns(LONG_TURNS // 2, timeout=LATE_US)))
        assert too_late(late.read())
        assert counted(other.read(), LONG_TURNS // 2)


def test_many_timeouts_leave_no_slot_occupied(gateway: GatewayProcess) -> None:
    wires = [Wire(gateway).send(post("slow", turns(FOR_EVER, timeout=SOON_US))) for _ in range(40)]
    assert all(too_late(wire.read()) for wire in wires)
    for wire in wires:
        wire.close()
    assert counted(ask(gateway, post("slow", turns(9, timeout=LATE_US))), 9)


def test_timeouts_are_counted_as_failures(gateway: GatewayProcess) -> None:
    def failures() -> int:
        (entry,) = ask(gateway, get("/v2/models/slow/stats")).document["model_stats"]
        count: int = entry["inference_stats"]["fail"]["count"]
        return count

    before = failures()
    assert too_late(ask(gateway, post("slow", turns(FOR_EVER, timeout=SOON_US))))
    until(lambda: failures() == before + 1, "the failure to be counted")


@pytest.mark.parametrize("pad", [0, 2 * SMALL_BODY], ids=["short", "large"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 1e300, "1000", "10s", True, [1000], {"us": 1000}])
def test_invalid_timeout_is_refused(gateway: GatewayProcess, value: Any, pad: int) -> None:
    for request in (post("doubling", row(timeout=value), pad=pad), post("slow", turns(1, timeout=value), pad=pad)):
        reply = ask(gateway, request)
        assert reply.status == 400, json.dumps(value)
        assert reply.document.keys() == {"error"}
        assert "timeout" in reply.document["error"]
