"""The span queue and the exported spans, with OpenTelemetry's own exporter and a real collector."""

import logging
import subprocess
import sys
from array import array
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.errors import Outcome, SettingsError
from gateway.routing.release import CANDIDATE, PINNED, STABLE, Decision
from gateway.settings.extras import check_tracing
from gateway.settings.gateway import ServerSettings, TracingSettings
from gateway.shm.scoreboard import HEAD, SPANS_DROPPED, SPANS_EXPORTED, SPANS_FAILED
from gateway.worker.call import Origin, Trace
from gateway.worker.tracing import otlp
from gateway.worker.tracing.spans import BATCH_SIZE, Export, Span, SpanExporter
from tests.worker.tracing.collector import Collector, attributes

TRACE = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)
STARTED_NS, ENDED_NS = 1_795_003_200_000_000_000, 1_795_003_200_001_500_000
DECISION = Decision(2, CANDIDATE, "everyone", 5, 50_000, 0.05)
PLAIN = Span(
    origin=None,
    prediction_id=b"p1",
    model="digits",
    decision=DECISION,
    outcome=Outcome.OK,
    status=200,
    rescued="",
    rescued_from=None,
    batch=3,
    queued_ns=42_000,
    started_ns=STARTED_NS,
    ended_ns=ENDED_NS,
)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def export(collector: Collector) -> Export:
    return otlp.exporter(TracingSettings.model_validate({"endpoint": collector.url + "/"}), 1)


def counted() -> "memoryview[int]":
    return memoryview(array("q", bytes(8 * HEAD)))


def test_span_describes_the_decision_and_the_answer(collector: Collector, export: Export) -> None:
    assert export([PLAIN]) == ""
    (span,) = collector.spans
    assert (span.name, span.kind, span.parent_span_id) == ("POST /v2/models/{model}/infer", span.SPAN_KIND_SERVER, b"")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (STARTED_NS, ENDED_NS)
    assert (len(span.trace_id), len(span.span_id), span.status.code) == (16, 8, span.status.STATUS_CODE_UNSET)
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "canary_gateway.model": "digits",
        "canary_gateway.version": 2,
        "canary_gateway.variant": "candidate",
        "canary_gateway.route": "everyone",
        "canary_gateway.outcome": "ok",
        "canary_gateway.rescued": False,
        "canary_gateway.batch": 3,
        "canary_gateway.queue_us": 42,
        "canary_gateway.prediction_id": "p1",
    }
    (resource,) = collector.resources
    assert (resource["service.name"], resource["canary_gateway.worker"]) == ("canary-gateway", "1")


def test_span_is_the_child_of_the_caller_s_span(collector: Collector, export: Export) -> None:
    assert export([PLAIN._replace(origin=Origin(TRACE, "a-1")), PLAIN._replace(origin=Origin(None, "a-2"))]) == ""
    child, root = collector.spans
    assert (child.trace_id.hex(), child.parent_span_id.hex()) == (TRACE.trace_id, TRACE.span_id)
    assert child.span_id.hex() != TRACE.span_id
    assert (root.trace_id.hex() == TRACE.trace_id, root.parent_span_id) == (False, b"")
    assert [attributes(span)["canary_gateway.request_id"] for span in (child, root)] == ["a-1", "a-2"]


def test_spans_of_rescued_pinned_and_failed_predictions(collector: Collector, export: Export) -> None:
    rescued = PLAIN._replace(decision=replace(DECISION, version=1, variant=STABLE), rescued="timeout", rescued_from=2)
    pinned = PLAIN._replace(
        decision=Decision(2, PINNED, "pinned", None, 0, 1.0), outcome=Outcome.MODEL_ERROR, status=500, prediction_id=b""
    )
    assert export([rescued, pinned]) == ""
    saved, failed = collector.spans
    said = attributes(saved)
    assert [said[f"canary_gateway.{name}"] for name in ("rescued", "rescued_from", "rescue_reason", "variant")] == [
        True, 2, "timeout", "stable",
    ]  # fmt: skip
    assert (failed.name, failed.status.code) == (
        "POST /v2/models/{model}/versions/{version}/infer",
        failed.status.STATUS_CODE_ERROR,
    )
    assert attributes(failed)["canary_gateway.outcome"] == "model_error"
    assert "canary_gateway.prediction_id" not in attributes(failed)


def test_spans_beyond_the_queue_are_dropped_and_counted(collector: Collector, export: Export) -> None:
    head = counted()
    spans = SpanExporter(export, head, capacity=2 * BATCH_SIZE + 1)
    for number in range(2 * BATCH_SIZE + 4):
        spans.offer(PLAIN._replace(prediction_id=b"%d" % number))
    spans.flush()
    assert (head[SPANS_EXPORTED], head[SPANS_DROPPED], head[SPANS_FAILED]) == (2 * BATCH_SIZE + 1, 3, 0)
    assert [attributes(span)["canary_gateway.prediction_id"] for span in collector.spans] == [
        str(number) for number in range(2 * BATCH_SIZE + 1)
    ]
    assert len(collector.requests) == 3


def test_refusing_collector_is_logged_once_and_its_recovery_once(
    collector: Collector, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    head = counted()
    spans = SpanExporter(export, head)
    for status in (400, 403, 200, 200):
        collector.status = status
        spans.offer(PLAIN)
        spans.flush()
    assert (head[SPANS_EXPORTED], head[SPANS_FAILED]) == (2, 2)
    refused, again = [record.getMessage() for record in caplog.records if record.name == "gateway.worker.tracing"]
    assert refused.startswith("spans cannot be sent to server.tracing.endpoint; predictions are served without them: ")
    assert "400" in refused
    assert again == "spans can be sent to server.tracing.endpoint again"


def test_queued_spans_are_exported_on_close(collector: Collector, export: Export) -> None:
    spans = SpanExporter(export, counted())
    spans.start()
    for _ in range(BATCH_SIZE + 1):
        spans.offer(PLAIN)
    spans.close()
    assert len(collector.spans) == BATCH_SIZE + 1


def test_missing_packages_are_reported_with_the_install_command() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from gateway.settings.gateway import ServerSettings\n"
        "from gateway.settings.extras import check_tracing\n"
        "check_tracing(ServerSettings())\n"
        "check_tracing(ServerSettings.model_validate({'tracing': {'endpoint': 'http://127.0.0.1:4318'}}))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "server.tracing: needs OpenTelemetry; install it with: pip install 'canary-gateway[otel]'" in ended.stderr


def test_check_tracing_passes_with_the_packages() -> None:
    check_tracing(ServerSettings.model_validate({"tracing": {"endpoint": "http://127.0.0.1:4318"}}))


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "http://me:secret@collector:4318", "http://c/?key=1", 4318],
)
def test_invalid_endpoint_is_refused(endpoint: object) -> None:
    with pytest.raises(ValueError, match="endpoint") as refused:
        TracingSettings.model_validate({"endpoint": endpoint})
    assert not isinstance(refused.value, SettingsError)
