"""A real gateway with tracing: spans, records, answers and log agree on each request."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.processes.flawed import body, gateway, metric, release, until
from tests.running import GatewayProcess
from tests.worker.tracing.collector import Collector, attributes

pytestmark = pytest.mark.slow

URL = "/v2/models/flawed/infer"
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-00"}
FAILING, FINE = -1.0, 1.0  # first numbers of a row, by what the candidate makes of it


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def traced(folder: Path, collector: Collector, sample: str, **settings: Any) -> GatewayProcess:
    return gateway(folder, server={"tracing": {"endpoint": collector.url, "sample": sample}}, **settings)


def ask(running: GatewayProcess, first: float = FINE, path: str = URL, **headers: str) -> httpx.Response:
    return httpx.post(running.url + path, content=body(first), headers=headers)


def records(running: GatewayProcess) -> dict[str, dict[str, Any]]:
    """The records by prediction id, once the gateway has ended."""
    files = sorted((running.config.parent / "state" / "records").glob("predictions-*"))
    lines = [orjson.loads(line) for file in files for line in file.read_bytes().split(b"\n") if line]
    return {line["prediction_id"]: line for line in lines}


def test_each_span_agrees_with_the_record_of_its_prediction(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector, "100%") as running:
        ids = [ask(running, first).headers["x-prediction-id"] for first in (FINE, FAILING) * 8]
        ids.append(ask(running, path="/v2/models/flawed/versions/2/infer").headers["x-prediction-id"])
        spans = {attributes(span)["canary_gateway.prediction_id"]: span for span in collector.wait(len(ids))}
        assert metric(running, "gateway_spans_total", result="exported") == len(ids)
    kept = records(running)
    assert list(spans.keys() ^ set(ids)) == []
    for prediction_id, span in spans.items():
        said, record = attributes(span), kept[prediction_id]
        for name in ("model", "version", "variant", "route", "outcome", "batch", "queue_us"):
            assert said[f"canary_gateway.{name}"] == record[name]
        assert said["canary_gateway.rescued"] is (record["rescued_from"] is not None)
        assert said.get("canary_gateway.rescue_reason") == record["rescue_reason"]
        lasted_us = (span.end_time_unix_nano - span.start_time_unix_nano) // 1000
        assert lasted_us == record["latency_us"]
        assert abs(span.end_time_unix_nano - record["time_ns"]) < 100_000_000
    assert {record["variant"] for record in kept.values()} == {"stable", "candidate", "pinned"}
    assert any(record["rescued_from"] for record in kept.values())
    assert {resource["canary_gateway.worker"] for resource in collector.resources} <= {"0", "1"}


def test_traceparent_decides_whether_a_request_is_traced(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector, "0%") as running:
        for headers in ({}, UNSAMPLED, SAMPLED, {"traceparent": "00-not-valid-01"}):
            assert ask(running, **headers).status_code == 200
        (span,) = collector.wait(1)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert len(collector.spans) == 1
    found = [record.get("trace_id") for record in records(running).values()]
    assert sorted(found, key=str) == [TRACE_ID, TRACE_ID, None, None]


def test_queued_spans_are_exported_at_shutdown(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path, collector, "100%") as running:
        for _ in range(40):
            ask(running)
    assert len(collector.spans) == 40


def test_refusing_collector_affects_no_prediction(tmp_path: Path, collector: Collector) -> None:
    collector.status = 400
    with traced(tmp_path, collector, "100%") as running:
        assert all(ask(running).status_code == 200 for _ in range(100))
        until(lambda: metric(running, "gateway_spans_total", result="failed") == 100, "all spans have failed")
        assert metric(running, "gateway_predictions_total", outcome="ok") == 100
        assert release(running)["model"] == "flawed"
    told = [line for line in running.log.splitlines() if "spans do not reach the collector" in line]
    assert 1 <= len(told) <= 2  # once each worker
    assert "opentelemetry" not in running.log
    assert "Traceback" not in running.log


def test_collector_that_never_answers_delays_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and reads nothing
        tracing = {"endpoint": f"http://127.0.0.1:{deaf.getsockname()[1]}", "sample": "100%"}
        with gateway(tmp_path, server={"tracing": tracing}) as running:
            assert all(ask(running).status_code == 200 for _ in range(100))
            started = time.monotonic()
            assert running.stop() == 0
    assert time.monotonic() - started < 10.0  # not the exporter's own time-out after the drain's
