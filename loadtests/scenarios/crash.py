"""kill -9 of workers under load: the others go on, a new one is ready soon, and the totals hold."""

import os
import random
import signal
import statistics
import time
from pathlib import Path

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import track

from loadtests import models, servers
from loadtests.client import Client, Seen, request
from loadtests.report import write

KILLS = 20
CONNECTIONS = 16
READY_WITHIN_S = 3.0  # warm-up of this model, a Python start of about a second, and one second


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Two workers; one of them is killed again and again. `rounds` below 5 kills less often."""
    models.tiny(folder / "models")
    kills = KILLS if rounds >= 5 else 4 * rounds
    document = {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}]}
    post = request("/v2/models/tiny/infer", orjson.dumps(document))
    generator, seen, back_s = random.Random(0), Seen(), []
    with (
        servers.fleet(folder, folder / "models", {}, workers=2) as running,
        Client(running.address, CONNECTIONS, lambda: post, reconnect=True) as client,
    ):
        for number in track(range(1, kills + 1), "killing workers", transient=True):
            client.keep_busy(0.2, seen)
            os.kill(generator.choice(running.worker_pids()), signal.SIGKILL)
            started = time.monotonic()
            while not _restarted(running, number):
                client.keep_busy(0.05, seen)
            back_s.append(time.monotonic() - started)
        client.keep_busy(0.5, seen)
        counted = _metric(running, "gateway_predictions_total")
        lost = client.lost
    answered = sum(seen.variants.values())
    holds = answered <= counted <= answered + lost
    met = holds and not seen.failures and max(back_s) <= READY_WITHIN_S
    Console().print(
        f"{kills} kills: {answered:,} answered ≤ {counted:,.0f} counted ≤ {answered:,} + {lost} lost with their worker:"
        f" {holds}; failed otherwise {sum(seen.failures.values())}; a new worker ready after"
        f" {statistics.median(back_s):.2f} s, {max(back_s):.2f} s at most (≤ {READY_WITHIN_S:g})"
    )
    write("crash", {"answered": answered, "counted": counted, "lost": lost, "ready_s": back_s, "met": met})
    return met


def _restarted(running: servers.Running, times: int) -> bool:
    restarts = _metric(running, "gateway_worker_restarts_total")
    return restarts == times and _metric(running, "gateway_workers", state="ready") == 2


def _metric(running: servers.Running, name: str, **labels: str) -> float:
    text = httpx.get(f"{running.control_url}/metrics").text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
