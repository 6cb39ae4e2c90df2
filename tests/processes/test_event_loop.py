"""Whatever a model does, its worker's event loop keeps running: other models and health answer, deadlines are kept."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends import onnx_models, stretching
from tests.running import GatewayProcess
from tests.wire import Wire, get, post, row

PATIENCE_US = 100_000
PATIENCE_S = PATIENCE_US / 1e6
LATE_S = 1.0  # for the answer at a deadline, on a machine that has other things to do
TURNS = 5  # of which the best counts: what a busy machine adds to the others is not the gateway's doing
DEAR = {  # an input on which each model takes half a second at least, where nothing ends its run
    "looping": np.array([10**12], np.int64),
    "convolving": np.ones((1, 1, 700, 700), np.float32),
    "branching": np.full((1, 4), 2e6, np.float32),
    "scanning": np.ones(1_000_000, np.float32),
    "ranging": np.array([300_000_000], np.int64),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("event_loop")
    models = folder / "models"
    onnx_models.doubling(models / "doubling" / "1" / "model.onnx")
    onnx_models.looping(models / "looping" / "1" / "model.onnx")
    for make in (stretching.convolving, stretching.branching, stretching.scanning):
        make(models / make.__name__ / "1" / "model.onnx")
    stretching.sized(models / "ranging" / "1" / "model.onnx", "Range")
    with GatewayProcess(folder, models) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


def binary(model: str, x: Any, **parameters: Any) -> bytes:
    """A request with its tensor as binary data behind the JSON."""
    datatype = {"f": "FP32", "i": "INT64"}[x.dtype.kind]
    tensor = {"name": "x", "shape": x.shape, "datatype": datatype, "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return post(model, head + x.tobytes(), f"Inference-Header-Content-Length: {len(head)}")


def predict_timed(wire: Wire, request: bytes) -> tuple[int, float]:
    start = time.monotonic()
    return wire.send(request).read().status, time.monotonic() - start


@pytest.mark.slow
@pytest.mark.parametrize("model", DEAR)
def test_long_run_does_not_delay_other_requests(gateway: GatewayProcess, model: str) -> None:
    delays: list[float] = []
    while len(delays) < TURNS and min(delays, default=math.inf) > 0.1:
        delays.append(delay_beside(gateway, model))
    assert min(delays) < 0.1, delays


def delay_beside(gateway: GatewayProcess, model: str) -> float:
    """What 95% of predictions, and of questions about health, take at most beside a long run, in seconds."""
    with Wire(gateway) as dear, Wire(gateway) as neighbour, Wire(gateway) as probe:
        assert predict_timed(neighbour, post("doubling", row()))[0] == 200
        start = time.monotonic()
        dear.send(binary(model, DEAR[model], timeout=PATIENCE_US))
        beside, health = [], []
        while time.monotonic() - start < PATIENCE_S + 0.3:
            status, seconds = predict_timed(neighbour, post("doubling", row()))
            assert status == 200
            beside.append(seconds)
            status, seconds = predict_timed(probe, get("/v2/health/ready"))
            assert status == 200
            health.append(seconds)
        assert dear.read().status == 504
        return float(max(np.quantile(beside, 0.95), np.quantile(health, 0.95)))


@pytest.mark.slow
@pytest.mark.parametrize("model", DEAR)
def test_deadline_is_kept_for_requests_queued_behind_a_run(gateway: GatewayProcess, model: str) -> None:
    waits_s: list[float] = []
    while len(waits_s) < TURNS and min(waits_s, default=math.inf) > PATIENCE_S + LATE_S:
        wires = [Wire(gateway) for _ in range(4)]
        start = time.monotonic()
        for wire in wires:
            wire.send(binary(model, DEAR[model], timeout=PATIENCE_US))
        for wire in wires:
            assert wire.read().status == 504
            wire.close()
        waits_s.append(time.monotonic() - start)
    assert PATIENCE_S <= min(waits_s) < PATIENCE_S + LATE_S, waits_s
    with Wire(gateway) as wire:
        cheap = {"branching": np.ones((1, 4), np.float32), "convolving": np.ones((1, 1, 4, 4), np.float32)}
        x = cheap.get(model, np.ones(1, DEAR[model].dtype))
        assert wire.send(binary(model, x, timeout=60_000_000)).read().status == 200, "the model goes on"


@pytest.mark.parametrize("timeout_us", [1, 2])
@pytest.mark.parametrize("pad", [0, 200_000], ids=["short", "large"])
def test_deadline_too_short_for_any_run_is_answered_504(gateway: GatewayProcess, timeout_us: int, pad: int) -> None:
    with Wire(gateway) as wire:
        assert wire.send(post("doubling", row(timeout=timeout_us), pad=pad)).read().status == 504
        assert wire.send(post("doubling", row(timeout=60_000_000), pad=pad)).read().status == 200


def test_many_rows_of_a_small_model_run_in_a_thread(gateway: GatewayProcess) -> None:
    x = np.ones((500_000, 2), np.float32)
    with Wire(gateway) as wire:
        reply = wire.send(binary("doubling", x)).read()
        assert reply.status == 200
        assert reply.document["outputs"][0]["shape"] == [500_000, 2]
