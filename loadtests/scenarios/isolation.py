"""What a process of its own costs a candidate: against the same candidate in the worker's threads, in one run.

Everything has one core. The last figure is what the gateway loses by sending a tenth of its traffic to the candidate.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from loadtests import models, servers
from loadtests.report import report
from loadtests.rounds import alternate, line
from loadtests.scenarios.overhead import BODY, JSON
from loadtests.wrk import Load, Measured

ADDED_US = 100.0  # that the median may take longer at one connection
SMALL = Load(BODY, JSON, customers=1000)


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """A tiny model at 1 and 32 connections, tensors of 600 kB at 8, and a tenth of the traffic against none."""
    models.tiny(folder / "models")
    models.image(folder / "models")
    shutil.copytree(folder / "models" / "image" / "1", folder / "models" / "image" / "2")
    shutil.copytree(folder / "models", folder / "threads")
    for name in ("tiny", "image"):
        (folder / "threads" / name / "model.yaml").write_text("isolation: thread\n")
    tiny = _pair(folder, "tiny", SMALL, [1, 32], rounds, seconds)
    image = _pair(folder, "image", _image(), [8], rounds, seconds)
    with (
        servers.gateway(folder / "none", folder / "models", _routing("tiny", 0), "tiny") as none,
        servers.gateway(folder / "tenth", folder / "models", _routing("tiny", 10), "tiny") as tenth,
    ):
        share = alternate((none, tenth), SMALL, [32], rounds, seconds)[32]
    allowed = ([_later(one) for one in tiny[1][0]], tiny[1][1])
    lines = [
        line("1 connection, p50, to threads + 100 µs", "µs", allowed, lambda m: m.p50_us, 1.0, False),
        line("32 connections, requests", "/s", tiny[32], lambda m: m.per_s, 0.70, True),
        line("8 connections, 600 kB, requests", "/s", image[8], lambda m: m.per_s, 0.85, True),
        line("10% to the candidate, to 0%, requests", "/s", share, lambda m: m.per_s, 0.90, True),
    ]
    return report("isolation", lines)


def _pair(folder: Path, name: str, load: Load, connections: list[int], rounds: int, seconds: int) -> Any:
    """The candidate with all traffic, in threads and in its process, in turn."""
    routing = _routing(name, 100)
    with (
        servers.gateway(folder / f"{name}-threads", folder / "threads", routing, name) as threads,
        servers.gateway(folder / f"{name}-process", folder / "models", routing, name) as process,
    ):
        return alternate((threads, process), load, connections, rounds, seconds)


def _routing(name: str, weight: int) -> dict[str, Any]:
    split = {"routes": [{"name": "everyone", "weight": weight}]}
    return {"models": {name: {"stable": 1, "candidate": 2, "split": split}}}


def _image() -> Load:
    raw = np.random.default_rng(0).random((1, 3, 224, 224), np.float32).tobytes()
    tensor = {"name": "x", "shape": [1, 3, 224, 224], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    header = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {"inference-header-content-length": str(len(header)), "content-type": "application/octet-stream"}
    return Load(header + raw, headers, customers=100)


def _later(measured: Measured) -> Measured:
    return replace(measured, p50_us=measured.p50_us + ADDED_US)
