"""Mirrored requests on real models: compared, counted, sent only with spare capacity, and no slot is ever lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from onnx import TensorProto, helper

from gateway.backends.batch import Answer
from gateway.backends.repository import Repository
from gateway.protocol.decode import decode_request
from gateway.routing.attributes import Attributes
from gateway.settings.routing import RoutingSettings
from gateway.shm.ring import Ring
from gateway.worker.call import Call, RequestSource
from gateway.worker.mirror import MAX_CONCURRENT, is_mirrored
from gateway.worker.pipeline import Pipeline
from loadtests import models
from tests.backends import onnx_models
from tests.deployed import RING, Catalog, Deployed

GOOD, BAD = 1.0, -1.0  # the candidate answers the second with NaN
Make = Callable[[Path], None]


class Bench:
    """A gateway on this event loop, and what its mirror has recorded."""

    def __init__(self, gateway: Pipeline, ring: Ring) -> None:
        self.gateway = gateway
        self.ring = ring
        self.candidate = gateway.catalog.models["flawed"].versions[2]

    @property
    def mirrored(self) -> dict[str, int]:
        """The numbers of mirrored requests by result."""
        return {name: count for name, count in self.candidate.tally.read().mirrored.items() if count}

    def records(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in bytes(self.ring.pending(RING)).splitlines()]

    def submit(self, first: float) -> "tuple[Call, asyncio.Future[Answer]]":
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [first, 1.0, 2.0, 3.0]}
        body = orjson.dumps({"inputs": [tensor]})
        gateway = self.gateway
        call = gateway.begin(gateway.served("flawed"), None, decode_request(body), Attributes(), RequestSource(body))
        return call, gateway.submit(call)

    async def ask(self, first: float) -> str:
        """Make a prediction, rescued if necessary; returns its id."""
        call, submitted = self.submit(first)
        await asyncio.wait([submitted])
        instead = self.gateway.rescue(call, submitted)
        if instead is not None:
            await asyncio.wait([instead])
        return self.gateway.end(call, instead or submitted).call.prediction_id.decode()

    async def wait_for_results(self, copies: int) -> None:
        """Wait until so many mirrored requests have a result."""
        async with asyncio.timeout(30):
            while sum(self.mirrored.values()) < copies:
                await asyncio.sleep(0.001)


def routing(weight: float = 0, candidate: int | None = 2) -> RoutingSettings:
    if candidate is None:
        return RoutingSettings.model_validate({"models": {"flawed": {"stable": 1}}})
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": weight}]}
    settings = {"stable": 1, "candidate": candidate, "split": split, "mirror": {"weight": 100}}
    return RoutingSettings.model_validate({"models": {"flawed": settings}})


def flawed(repository: Path) -> None:
    models.flawed(repository, "nan")


def half_precision(repository: Path) -> None:
    """Stable adds 40,000, the candidate 50,000: the sum of four such FP16 numbers is beyond what FP16 holds."""
    for version, more in ((1, 40_000), (2, 50_000)):
        nodes = [
            helper.make_node("Add", ["x", "more"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.FLOAT16),
        ]
        inputs, outputs = {"x": (TensorProto.FLOAT, ["n", 4])}, {"y": (TensorProto.FLOAT16, ["n", 4])}
        constant = helper.make_tensor("more", TensorProto.FLOAT, [1], [more])
        onnx_models.save(repository / "flawed" / str(version) / "model.onnx", nodes, inputs, outputs, [constant])


@asynccontextmanager
async def serving(folder: Path, weight: float, make: Make) -> AsyncIterator[Bench]:
    make(folder / "models")
    deployment = Catalog(Repository(folder / "models"), routing(weight))
    await deployment.start()
    deployed = Deployed(deployment)
    try:
        yield Bench(deployed.pipeline, deployed.rings.mirrors)
    finally:
        await deployment.close()


def on_loop(
    folder: Path, test: Callable[[Bench], Coroutine[Any, Any, None]], weight: float = 0, make: Make = flawed
) -> None:
    async def run() -> None:
        async with serving(folder, weight, make) as bench:
            await test(bench)

    asyncio.run(run())


def test_mirrored_answer_is_compared_and_recorded_under_the_prediction_id(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        prediction_id = await bench.ask(GOOD)
        await bench.wait_for_results(1)
        assert bench.mirrored == {"agree": 1}
        (record,) = bench.records()
        assert (record["prediction_id"], record["version"], record["agreement"]) == (prediction_id, 2, True)
        assert record["distance"] == pytest.approx(0)

    on_loop(tmp_path, test)


def test_large_fp16_numbers_are_compared_without_overflow(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        await bench.ask(GOOD)
        await bench.wait_for_results(1)
        assert bench.mirrored == {"disagree": 1}
        (record,) = bench.records()
        assert record["distance"] == pytest.approx(0.25, rel=1e-2)

    on_loop(tmp_path, test, make=half_precision)


def shifted(repository: Path) -> None:
    """A regression: stable adds 1, the candidate 2 less than that."""
    for version, more in ((1, 1.0), (2, -1.0)):
        nodes = [helper.make_node("ReduceSum", ["x", "axis"], ["sum"]), helper.make_node("Add", ["sum", "more"], ["y"])]
        inputs, outputs = {"x": (TensorProto.FLOAT, ["n", 4])}, {"y": (TensorProto.FLOAT, ["n", 1])}
        constants = [
            helper.make_tensor("more", TensorProto.FLOAT, [1], [more]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ]
        onnx_models.save(repository / "flawed" / str(version) / "model.onnx", nodes, inputs, outputs, constants)
    (repository / "flawed/model.yaml").write_text("prediction: {output: y, kind: regression, tolerance: 0.5}\n")


@pytest.mark.parametrize("first", [4.0, -6.0])
def test_candidates_number_is_recorded(tmp_path: Path, first: float) -> None:
    async def test(bench: Bench) -> None:
        await bench.ask(first)
        await bench.wait_for_results(1)
        assert bench.mirrored == {"disagree": 1}
        (record,) = bench.records()
        assert type(record["predicted"]) is float and record["predicted"] == first + 6.0 - 1.0

    on_loop(tmp_path, test, make=shifted)


def test_failed_mirrored_request_is_counted_and_has_no_other_effect(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        await bench.ask(BAD)
        await bench.wait_for_results(1)
        assert (bench.mirrored, bench.records()) == ({"failed": 1}, [])

    on_loop(tmp_path, test)


def test_request_the_candidate_failed_on_is_not_mirrored_to_it(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(3):
            await bench.ask(BAD)
        await asyncio.sleep(0)  # a turn of the loop, in which a copy would have begun
        assert bench.candidate.tally.read().rescues["invalid_output"] == 3
        assert bench.candidate.tally.read().batches == {1: (3, bench.candidate.tally.read().batches[1][1])}
        assert bench.mirrored == {}

    on_loop(tmp_path, test, weight=100)


def test_mirrored_requests_beyond_the_slots_are_dropped_and_counted(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        calls = [bench.submit(GOOD) for _ in range(MAX_CONCURRENT + 3)]
        await asyncio.wait([submitted for _, submitted in calls])
        for call, submitted in calls:
            bench.gateway.end(call, submitted)
        assert bench.mirrored == {"dropped": 3}
        await bench.wait_for_results(len(calls))
        assert bench.mirrored["agree"] + bench.mirrored["dropped"] == len(calls)

    on_loop(tmp_path, test)


def test_candidate_unloaded_meanwhile_frees_its_mirror_slots(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        calls = [bench.submit(GOOD) for _ in range(MAX_CONCURRENT + 1)]  # under way while the configuration changes
        deployment = bench.gateway.catalog
        await deployment.prepare(routing(candidate=None), 2)
        deployment.commit()
        while deployment._draining:
            await asyncio.sleep(0.001)
        await asyncio.wait([submitted for _, submitted in calls])
        for call, submitted in calls:
            bench.gateway.end(call, submitted)
        await bench.wait_for_results(len(calls))
        assert bench.mirrored == {"dropped": len(calls)}
        await deployment.prepare(routing(), 3)
        deployment.commit()
        bench.candidate = deployment.models["flawed"].versions[2]
        before = sum(bench.mirrored.values())
        await bench.ask(GOOD)
        await bench.wait_for_results(before + 1)
        assert bench.mirrored["agree"] == 1

    on_loop(tmp_path, test)


def test_is_mirrored_picks_the_configured_share() -> None:
    picked = sum(is_mirrored(nonce, 50_000) for nonce in range(100_000))
    assert 4_700 < picked < 5_300
    assert not any(is_mirrored(nonce, 0) for nonce in range(1_000))
    assert all(is_mirrored(nonce, 1_000_000) for nonce in range(1_000))


def test_answer_that_cannot_be_compared_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("unforeseen")

    async def test(bench: Bench) -> None:
        monkeypatch.setattr("gateway.worker.mirror.agreement", fails)
        one = await bench.ask(GOOD)
        await bench.wait_for_results(1)
        assert bench.mirrored == {"failed": 1}
        (record,) = bench.records()
        assert (record["prediction_id"], record["agreement"], record["response"]["outputs"][0]["name"]) == (
            one,
            None,
            "y",
        )
        assert "unforeseen" in caplog.text

    on_loop(tmp_path, test)
