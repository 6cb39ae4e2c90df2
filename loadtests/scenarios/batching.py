"""A model of 0.5 ms a row at 64 connections, against plain session.run at its best batch size."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
from rich.progress import track

from loadtests import models, servers
from loadtests.report import Line, report
from loadtests.wrk import Load, measure

SIZES = (1, 2, 4, 8, 16, 32, 64)
CONNECTIONS = 64


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Both on core 0, in turn; the gateway is stopped while session.run is measured."""
    file = models.heavy(folder / "models")
    row = np.random.default_rng(0).random((1, 8, 16, 16), np.float32)
    raw = row.tobytes()
    tensor = {"name": "x", "shape": list(row.shape), "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    header = orjson.dumps({"inputs": [tensor]})
    load = Load(header + raw, {"inference-header-content-length": str(len(header))})
    best = max(SIZES, key=lambda size: _raw(file, size, 1.0))
    lines = []
    for name, sample in (("without records", "0%"), ("with full records, 12 kB each", "100%")):
        reference, ours = [], []
        place: tuple[Path, Path, dict[str, str], str] = folder / sample, folder / "models", {}, "heavy"
        with servers.gateway(*place, records={"sample": sample}) as gateway:
            measure(gateway, load, CONNECTIONS, 1)
            for _ in track(range(rounds), f"measuring {name}, best batch size {best}", transient=True):
                reference.append(_raw(file, best, seconds))
                ours.append(measure(gateway, load, CONNECTIONS, seconds).per_s)
        text = f"{CONNECTIONS} connections, {name}, rows (raw at {best} rows)"
        lines.append(Line(text, "/s", reference, ours, 0.85, True))
    return report("batching", lines)


def _raw(file: Path, size: int, seconds: float) -> float:
    """Rows a second of session.run, in a process of its own on the servers' core."""
    code = f"from loadtests import models; print(models.rows_per_s(models.session({str(file)!r}), {size}, {seconds}))"
    command = ["taskset", "-c", str(servers.SERVER_CORE), sys.executable, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout)
