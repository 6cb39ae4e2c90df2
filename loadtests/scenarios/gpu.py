"""Images through a ResNet-50 with random weights on a GPU (or, small, on the CPU): against plain session.run there."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from gateway.backends.onnx import OnnxSession
from loadtests import raw, servers
from loadtests.client import request
from loadtests.report import Line, report, write
from loadtests.residual import RESNET_50, SMALL, images, residual
from loadtests.swarm import Seen, Swarm

PROVIDERS: Final = {"CUDA": "CUDAExecutionProvider", "CPU": "CPUExecutionProvider"}
WORKERS: Final = 4
CONNECTIONS: Final = 128  # twice what two full batches hold
PROCESSES: Final = {"CUDA": 6, "CPU": 2}  # that send
IMAGES: Final = 8
RAW_S: Final = 1.5  # for each way of running
READY_WITHIN_S: Final = 90.0
ALL_S: Final = 130.0  # from when on no further round is begun
BATCHES: Final = 3  # that a request at half load may take
MODEL: Final = "residual"
Batches = dict[float, float]


@dataclass(slots=True)
class Found:
    """Round by round, in images a second; `batches`: how many runs had at most so many rows."""

    raw_per_s: list[float] = field(default_factory=list)
    gateway_per_s: list[float] = field(default_factory=list)
    batches: Batches = field(default_factory=dict)
    rows_per_batch: float = 0.0
    half: Seen = field(default_factory=Seen)
    half_per_s: float = 0.0
    others: int = 0
    compared: int = 0
    failures: list[str] = field(default_factory=list)


def run(folder: Path, rounds: int, seconds: int, workers: int = WORKERS, provider: str = "CUDA") -> bool:
    """Three minutes at most with the options' defaults. `provider`: CUDA or CPU; the CPU gets a small network."""
    begun = time.monotonic()
    shape = RESNET_50 if provider == "CUDA" else SMALL
    file = residual(folder / "models", shape, MODEL)
    (folder / "models" / MODEL / "model.yaml").write_text(f"providers: [{PROVIDERS[provider]}]\n")
    session = OnnxSession(file, 1, [PROVIDERS[provider]])
    sent = images(shape, IMAGES)
    details: dict[str, Any] = {"raw": raw.figures(session, sent, RAW_S), "page-locked": raw.page_locked(session)}
    details |= {"runs on": session.providers, "measured raw after, s": time.monotonic() - begun}
    _tell(details)  # whatever becomes of the rest
    routing: dict[str, str] = {}
    place = folder / "gateway", folder / "models", routing, workers
    with servers.fleet(*place, within_s=READY_WITHIN_S, records={"sample": "0%"}) as running:
        details |= {"gateway ready after, s": time.monotonic() - begun, "memory of the GPU, MiB": _gpu_mib()}
        details |= {"served as": _served_as(running), "warnings": _warnings(folder / "gateway" / "log")}
        with Swarm(running.address, _requests(sent), PROCESSES[provider]) as swarm:
            found = _measured(session, sent, running, swarm, rounds, seconds, begun + ALL_S)
        if found.failures:
            Console().print((folder / "gateway" / "log").read_text()[-3000:])
    return _reported(found, details, provider, workers)


def _measured(
    session: OnnxSession, sent: Any, running: servers.Running, swarm: Swarm, rounds: int, seconds: int, end_s: float
) -> Found:
    found = Found()
    (expected,) = session.run({"x": sent})
    reference = raw.plain(session, sent, raw.ROWS)
    _take(found, swarm.send(CONNECTIONS, 2.0), expected, None)
    before = _batches(running)
    for _ in range(rounds):
        found.raw_per_s.append(raw.rows_per_s(reference, raw.ROWS, seconds))
        _take(found, swarm.send(CONNECTIONS, seconds), expected, float(seconds))
        if time.monotonic() > end_s:
            break
    found.batches, found.rows_per_batch = _between(before, _batches(running))
    found.half_per_s = float(np.median(found.gateway_per_s)) / 2
    found.half = swarm.send(CONNECTIONS, 2.0 * seconds, max(found.half_per_s, 1.0))
    _take(found, found.half, expected, None)
    return found


def _take(found: Found, seen: Seen, expected: Any, seconds: float | None) -> None:
    """Count what was answered, and how many of the answers looked at belong to another image."""
    found.failures += seen.failures
    if seconds:
        found.gateway_per_s.append(len(seen.ms) / seconds)
    for which, body in seen.bodies:
        answer = np.frombuffer(body[-expected[0].nbytes :], np.float32)
        found.compared += 1
        found.others += int(np.argmin(np.abs(expected - answer).sum(axis=1)) != which)


def _requests(sent: Any) -> list[bytes]:
    return [_request(image[None]) for image in sent]


def _request(image: Any) -> bytes:
    body = image.tobytes()
    tensor = {"name": "x", "shape": image.shape, "datatype": "UINT8", "parameters": {"binary_data_size": len(body)}}
    header = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    more = f"inference-header-content-length: {len(header)}\r\ncontent-type: application/octet-stream\r\n"
    return request(f"/v2/models/{MODEL}/infer", header + body, more)


def _batches(running: servers.Running) -> dict[str, float]:
    """The histogram of batch sizes by the edge that each count is below, and `sum`."""
    text = httpx.get(f"{running.control_url}/metrics", timeout=10).text
    samples = (
        sample
        for family in text_string_to_metric_families(text)
        if family.name == "gateway_batch_size"
        for sample in family.samples
    )
    found: dict[str, float] = {}
    for sample in samples:
        kind = sample.labels.get("le") or sample.name.rpartition("_")[2]
        found[kind] = found.get(kind, 0.0) + sample.value
    return found


def _between(before: dict[str, float], after: dict[str, float]) -> tuple[Batches, float]:
    """How many batches had how many rows at most, and the mean."""
    grown = {kind: value - before.get(kind, 0.0) for kind, value in after.items()}
    edges = sorted((float(kind), value) for kind, value in grown.items() if kind not in {"sum", "count", "created"})
    below = [0.0, *(value for _, value in edges)]
    batches = {edge: value - less for (edge, value), less in zip(edges, below, strict=False) if value > less}
    return batches, grown.get("sum", 0.0) / max(sum(batches.values()), 1.0)


def _served_as(running: servers.Running) -> Any:
    """What the gateway says of batches and runs at once."""
    told = httpx.get("http://{}:{}/v2/models/{}/config".format(*running.address, MODEL), timeout=10)
    return {key: told.json().get(key) for key in ("max_batch_size", "instance_group")} if told.is_success else told.text


def _warnings(log: Path) -> list[str]:
    return [line for line in log.read_text(errors="replace").splitlines() if "warning" in line.lower()][:5]


def _gpu_mib() -> int:
    """Memory taken on the first GPU by all processes; 0 where that cannot be asked."""
    if shutil.which("nvidia-smi") is None:
        return 0
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()
    return int(told[0]) if told else 0


def _reported(found: Found, details: dict[str, Any], provider: str, workers: int) -> bool:
    half_ms: Sequence[float] = found.half.ms or [float("inf")]
    batch_ms = raw.ROWS / float(np.median(found.raw_per_s)) * 1e3
    details |= {
        "provider": provider,
        "workers": workers,
        "batches by most rows": found.batches,
        "rows a batch": found.rows_per_batch,
        "half load, images/s": found.half_per_s,
        "half load, ms": {str(q): float(np.percentile(half_ms, q)) for q in (50, 90, 99, 99.9)},
        "answers that belong to another image": f"{found.others} of {found.compared} looked at",
        "failures": len(found.failures),
        "examples": sorted(set(found.failures))[:5],
    }
    _tell(details)
    write("gpu_details", details)
    lines = [
        Line(
            f"images, {CONNECTIONS} connections, to session.run at {raw.ROWS} rows",
            "/s", found.raw_per_s, found.gateway_per_s, 0.9, True,
        ),
        Line(
            f"p99 at half load, to {BATCHES} batches",
            "ms", [BATCHES * batch_ms], [float(np.percentile(half_ms, 99))], 1.0, False,
        ),
    ]  # fmt: skip
    return report("gpu", lines) and not found.failures and not found.others


def _tell(details: dict[str, Any]) -> None:
    table = Table(title="gpu, beside the ratios", title_justify="left", show_header=False)
    for name, value in details.items():
        for inner, figure in value.items() if isinstance(value, dict) else [("", value)]:
            text = f"{figure:,.1f}" if isinstance(figure, float) else str(figure)
            table.add_row(f"{name} {inner}".strip(), text)
    Console(width=160).print(table)
