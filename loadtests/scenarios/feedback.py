"""Feedback on 20,000 rows a second beside predictions at saturation: that none is rejected, dropped or lost."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import track

from loadtests import models, servers
from loadtests.client import Answer, Client, request
from loadtests.report import write
from loadtests.scenarios.overhead import LOAD, ROUTING
from loadtests.servers import Running
from loadtests.wrk import background

ROWS_PER_S: Final = 20_000
ROWS: Final = 64  # of an entry
CLASSES: Final = 10
CONNECTIONS: Final = 8
SATURATING: Final = 8
ACCEPTED: Final = 202
WRITTEN_WITHIN_S: Final = 10.0
KEPT_AT_LEAST: Final = 0.98  # of the rate that was meant: a slower client proves nothing


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Two workers; `rounds` · `seconds` is the length. Each entry is about a prediction of its own."""
    models.tiny(folder / "models")
    labels = [f"class {number}" for number in range(CLASSES)]
    settings = {"prediction": {"output": "y", "kind": "classification", "labels": labels}}
    (folder / "models/tiny/model.yaml").write_bytes(orjson.dumps(settings))
    entries = rounds * seconds * ROWS_PER_S // ROWS
    with servers.fleet(folder, folder / "models", ROUTING, workers=2) as running:
        ids = _predicted(running, entries)
        before = _counts(running)
        host, port = running.address
        began_s = time.monotonic()
        with background(f"http://{host}:{port}/v2/models/tiny/infer", LOAD, SATURATING) as end:
            answers = _told(running, ids, labels)
            took_s = time.monotonic() - began_s
            failed = end()
        found = _written(running, before, entries)
    said = [orjson.loads(answer.body) for answer in answers if answer.status == ACCEPTED]
    refused = entries - len(said)
    rejected = sum(len(one["rejected"]) for one in said)
    uncounted = sum("uncounted" in one for one in said)
    per_s = entries * ROWS / took_s
    dropped, recorded = (found[name] - before[name] for name in ("dropped", "feedback"))
    p99_ms = sorted(answer.ms for answer in answers)[int(entries * 0.99)]
    predictions_per_s = (found["prediction"] - before["prediction"]) / took_s
    Console().print(
        f"{took_s:.0f} s of feedback on {per_s:,.0f} rows/s in entries of {ROWS}, p99 {p99_ms:.1f} ms, beside"
        f" {predictions_per_s:,.0f} predictions/s ({failed} failed): {refused} refused, {rejected}"
        f" rejected, {uncounted} not counted, {dropped:,.0f} records dropped, {recorded:,.0f} of {entries:,} recorded"
    )
    whole = not (failed or refused or rejected or uncounted or dropped) and recorded == entries
    met = whole and per_s >= KEPT_AT_LEAST * ROWS_PER_S
    figures = {"rejected": rejected, "dropped": dropped, "recorded": recorded, "entries": entries, "met": met}
    write("feedback", {"rows_per_s": per_s, "predictions_per_s": predictions_per_s, "p99_ms": p99_ms, **figures})
    return met


def _predicted(running: Running, count: int) -> list[str]:
    """The ids of so many predictions of ROWS rows."""
    tensor = {"name": "x", "shape": [ROWS, 64], "datatype": "FP32", "data": np.ones(ROWS * 64).tolist()}
    post = request("/v2/models/tiny/infer", orjson.dumps({"inputs": [tensor]}))
    ids: list[str] = []
    with Client(running.address, CONNECTIONS, lambda: post) as client:
        for _ in track(range(0, count, CONNECTIONS), "predicting", transient=True):
            client.send()
            for answer in client.rest():
                assert answer.status == 200, answer.body
                ids.append(orjson.loads(answer.body)["parameters"]["prediction_id"])
    return ids[:count]


def _told(running: Running, ids: list[str], labels: list[str]) -> list[Answer]:
    """Send the truths of all predictions, evenly over the time."""
    truths = (labels * ROWS)[:ROWS]
    posts: Iterator[bytes] = (
        request("/v2/feedback", orjson.dumps({"prediction_id": one, "truth": truths})) for one in ids
    )
    answers: list[Answer] = []
    sent = 0
    began_s = time.monotonic()
    with Client(running.address, CONNECTIONS, lambda: next(posts)) as client:
        while sent < len(ids):
            due = int((time.monotonic() - began_s) * ROWS_PER_S / ROWS) + 1
            sent += client.send_some(min(due, len(ids)) - sent)
            answers += client.there()
            time.sleep(0.0005)
        return answers + client.rest()


def _written(running: Running, before: dict[str, float], entries: int) -> dict[str, float]:
    """The counts, once all feedback has been written."""
    end_s = time.monotonic() + WRITTEN_WITHIN_S
    found = _counts(running)
    while found["feedback"] - before["feedback"] < entries and time.monotonic() < end_s:
        time.sleep(0.1)
        found = _counts(running)
    return found


def _counts(running: Running) -> dict[str, float]:
    """Records written by kind, and those dropped."""
    counts = {"feedback": 0.0, "prediction": 0.0, "dropped": 0.0}
    for family in text_string_to_metric_families(httpx.get(f"{running.control_url}/metrics").text):
        for sample in family.samples:
            if sample.name == "gateway_records_dropped_total":
                counts["dropped"] += sample.value
            elif sample.name == "gateway_records_written_total" and sample.labels["kind"] in counts:
                counts[sample.labels["kind"]] += sample.value
    return counts
