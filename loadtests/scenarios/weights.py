"""Memory of a candidate with 100 MB of weights, four workers: in every worker, against in one process of its own.

Proportional set size of all processes of the gateway: what several share counts once.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from onnx import TensorProto, helper

from loadtests import models, servers
from loadtests.client import Client, Seen, request
from loadtests.memory import proportional_mb
from loadtests.report import Line, report

WORKERS = 4
ROWS, WIDTH = 50_000, 500  # of a table of floats: 100 MB
NAME = "big"
LOADED_WITHIN_S = 90.0
ENOUGH = 1000  # answers of the candidate, so that every worker has run it
SPLIT = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]}
ROUTING: dict[str, Any] = {"models": {NAME: {"stable": 1, "candidate": 2, "split": SPLIT}}}


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """A small stable version and a large candidate; measured after some requests to both."""
    _place(folder / "models")
    _place(folder / "threads")
    (folder / "threads" / NAME / "model.yaml").write_text("isolation: thread\n")
    threads, process = [], []
    for number in range(min(rounds, 2)):
        threads.append(_measured(folder / f"threads-{number}", folder / "threads"))
        process.append(_measured(folder / f"process-{number}", folder / "models"))
    return report("weights", [Line("memory of all processes", "MB", threads, process, 1.0, False)])


def _measured(folder: Path, repository: Path) -> float:
    post = request(f"/v2/models/{NAME}/infer", _body())
    with (
        servers.fleet(folder, repository, ROUTING, workers=WORKERS) as running,
        Client(running.address, 8, lambda: post) as client,
    ):
        seen = Seen()
        end_s = time.monotonic() + LOADED_WITHIN_S  # a worker that takes long to load the candidate begins without it
        while seen.variants["candidate"] < ENOUGH and time.monotonic() < end_s:
            client.keep_busy(1.0, seen)
        assert seen.variants["candidate"] >= ENOUGH and not seen.failures, seen.variants
        return sum(map(proportional_mb, servers.with_descendants(running.process.pid)))


def _place(repository: Path) -> None:
    ones = np.ones((1, WIDTH), np.float32)
    models.save(
        repository / NAME / "1",
        [helper.make_node("MatMul", ["x", "ones"], ["y"])],
        ["n", 1],
        ["n", WIDTH],
        {"ones": ones},
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["rows"]),
        helper.make_node("Flatten", ["rows"], ["y"]),
    ]
    table = np.random.default_rng(0).random((ROWS, WIDTH), np.float32)
    models.save(repository / NAME / "2", nodes, ["n", 1], ["n", WIDTH], {"table": table})


def _body() -> bytes:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [7]}
    return orjson.dumps({"inputs": [tensor]})
