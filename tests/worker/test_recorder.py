"""Predictions answered in one turn of the loop are recorded together: all that fit, each once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.backends.batch import Answer
from gateway.backends.repository import Repository
from gateway.errors import Overloaded
from gateway.protocol.decode import decode_request
from gateway.records.sampling import SHARE_RESOLUTION, sample_share
from gateway.routing.attributes import Attributes
from gateway.settings.routing import RoutingSettings
from gateway.shm.ring import Ring
from gateway.shm.scoreboard import DROPPED, RECORDED, THROTTLED, TOO_LARGE, UNRECORDED
from gateway.worker.call import Call, RequestSource
from gateway.worker.pipeline import Pipeline
from gateway.worker.record_lines import Answered
from gateway.worker.recorder import LARGE_BYTES, LINE_BYTES
from tests.backends import onnx_models
from tests.deployed import RING, Catalog, Deployed

SURROGATE = "\ud800"  # orjson writes no such text


def request_body(number: int) -> bytes:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [number, 0]}
    return orjson.dumps({"id": str(number), "inputs": [tensor]})


class Bench:
    """A gateway whose predictions are ended here, and not yet recorded."""

    def __init__(self, loop: asyncio.Runner, gateway: Pipeline, ring: Ring) -> None:
        self.run = loop.run
        self.gateway = gateway
        self.recorder = gateway.recorder
        self.ring = ring
        self.head = gateway.head

    def answered(self, number: int, *, pad: int = 0, customer: str | None = None, json: bytes = b"") -> Answered:
        body = json or request_body(number).ljust(pad)

        async def ended() -> Answered:
            call, submitted = self.submit(body, customer)
            await submitted
            return call, self.gateway.end(call, submitted)

        return self.run(ended())

    def submit(self, body: bytes, customer: str | None = None) -> "tuple[Call, asyncio.Future[Answer]]":
        """Submit a prediction on the event loop."""
        gateway, attributes = self.gateway, Attributes(customer)
        call = gateway.begin(gateway.served("doubling"), None, decode_request(body), attributes, RequestSource(body))
        return call, gateway.submit(call)

    def records(self) -> list[dict[str, Any]]:
        """What has been recorded since the last call."""
        data = bytes(self.ring.pending(self.ring.size))
        self.ring.release(len(data))
        assert not data or data.endswith(b"\n")
        return [orjson.loads(line) for line in data.splitlines()]


@contextmanager
def serving(folder: Path, size: int = RING, **settings: Any) -> Iterator[Bench]:
    onnx_models.doubling(folder / "models" / "doubling" / "1" / "model.onnx")
    routing = RoutingSettings.model_validate({"models": {"doubling": {"stable": 1}}})
    with asyncio.Runner() as loop:
        deployment = Catalog(Repository(folder / "models"), routing)
        loop.run(deployment.start())
        deployed = Deployed(deployment, size=size, **settings)
        yield Bench(loop, deployed.pipeline, deployed.rings.predictions)
        loop.run(deployment.close())


def test_each_of_many_predictions_has_a_line_of_its_own(tmp_path: Path) -> None:
    pretty = orjson.dumps(
        {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [7, 8]}]}, option=orjson.OPT_INDENT_2
    ).replace(b"\n", b"\r\n")
    with serving(tmp_path) as bench:
        answered = [bench.answered(number, customer=f"c{number}") for number in range(20)]
        answered.append(bench.answered(20, json=pretty))
        assert bench.records() == [], "nothing is recorded before"
        bench.recorder.answered(answered)
        records = bench.records()
    assert [record["prediction_id"] for record in records] == [call.prediction_id.decode() for call, _ in answered]
    for number, ((_, reply), record) in enumerate(zip(answered[:20], records, strict=False)):
        assert record["customer"] == f"c{number}" and record["request_id"] == str(number)
        assert record["request"]["inputs"][0]["data"] == [number, 0]
        assert record["response"] == orjson.loads(reply.body)
        assert record["response"]["outputs"][0]["data"] == [2 * number, 0]
        assert (record["outcome"], record["rescued_from"], record["predicted"]) == ("ok", None, None)
        assert record["latency_us"] == reply.duration_ns // 1000
    assert records[20]["request"] == orjson.loads(pretty)
    assert bench.head[RECORDED] == 21


def test_records_that_do_not_fit_the_ring_are_dropped_and_counted(tmp_path: Path) -> None:
    with serving(tmp_path, 4000) as bench:
        bench.recorder.answered([bench.answered(number) for number in range(10)])
        records = bench.records()
        assert 2 < len(records) < 10
        assert [record["request_id"] for record in records] == [str(number) for number in range(len(records))]
        assert (bench.head[RECORDED], bench.head[DROPPED]) == (len(records), 10 - len(records))
        bench.recorder.answered([bench.answered(10)])
        assert [record["request_id"] for record in bench.records()] == ["10"]


def test_record_that_cannot_be_encoded_does_not_affect_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path) as bench:
        customers = ["a", SURROGATE, "b"]
        answered = [bench.answered(number, customer=name) for number, name in enumerate(customers)]
        bench.recorder.answered(answered)
        assert [record["customer"] for record in bench.records()] == ["a", "b"]
    assert (bench.head[RECORDED], bench.head[DROPPED]) == (2, 1)
    assert "cannot be recorded" in caplog.text


def test_large_records_are_throttled_among_small_ones(tmp_path: Path) -> None:
    with serving(tmp_path, large="100KiB") as bench:
        sizes = [0, LINE_BYTES, LARGE_BYTES + 1, 2 * LARGE_BYTES, 2 * RING, 0]
        bench.recorder.answered([bench.answered(number, pad=size) for number, size in enumerate(sizes)])
        assert [record["request_id"] for record in bench.records()] == ["0", "1", "2", "3", "5"]
        assert (bench.head[TOO_LARGE], bench.head[THROTTLED]) == (1, 0), "a second's bytes and one that exceeds them"
        bench.recorder.answered([bench.answered(number, pad=size) for number, size in enumerate((LARGE_BYTES + 1, 0))])
        assert [record["request_id"] for record in bench.records()] == ["1"]
        assert bench.head[THROTTLED] == 1


def test_what_was_predicted_counts_as_part_of_a_large_record(tmp_path: Path) -> None:
    with serving(tmp_path, large="1KiB") as here:
        for number in range(3):
            call, reply = here.answered(number, pad=LINE_BYTES)
            reply.predictions = {"tags": [(0, 1)] * (LARGE_BYTES // 75), "age": [0.5]}
            here.recorder.answered([(call, reply)])
        assert (len(here.records()), here.head[THROTTLED]) == (1, 2)


def test_sample_is_selected_by_the_nonce(tmp_path: Path) -> None:
    with serving(tmp_path, sample="50%") as bench:
        answered = [bench.answered(number) for number in range(100)]
        bench.recorder.answered(answered)
        chosen = [call.request.id for call, _ in answered if sample_share(call.nonce) < SHARE_RESOLUTION // 2]
        assert [record["request_id"] for record in bench.records()] == chosen
        assert 20 < len(chosen) < 80
        assert bench.head[DROPPED] == 0


def test_when_full_refuse_records_a_prediction_before_it_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path, 4000, when_full="refuse") as bench:
        answered = [bench.answered(0)]
        assert [record["request_id"] for record in bench.records()] == ["0"]
        bench.recorder.answered(answered)
        assert bench.records() == [], "not a second time"
        with pytest.raises(Overloaded, match="when_full"):
            for number in range(1, 10):
                bench.answered(number)
        assert bench.head[UNRECORDED] == 1
        assert len(bench.records()) == bench.head[RECORDED] - 1
