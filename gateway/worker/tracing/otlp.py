"""Exports spans to an OpenTelemetry collector by OTLP over HTTP. Needs the extra `otel`.

Headers and certificates for the collector are set by the SDK's environment variables, such as
OTEL_EXPORTER_OTLP_HEADERS: secrets do not belong in gateway.yaml.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from gateway import __version__
from gateway.routing.release import PINNED
from gateway.settings.gateway import TracingSettings
from gateway.worker.call import Trace
from gateway.worker.tracing.spans import Export, Span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

TIMEOUT_S: Final = 5.0  # for one export, retries included
FIRST_SERVER_ERROR: Final = 500
PATH: Final = "/v2/models/{model}/infer"
PINNED_PATH: Final = "/v2/models/{model}/versions/{version}/infer"


def exporter(tracing: TracingSettings, worker: int) -> Export:
    """A function that sends spans to `tracing.endpoint` on the calling thread. `worker`: this worker's index."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class Gathered(SpanProcessor):
        """Collects the spans that have ended since the last export."""

        def __init__(self) -> None:
            self.spans: list[ReadableSpan] = []

        def on_end(self, span: ReadableSpan) -> None:
            self.spans.append(span)

    gathered, last_words = Gathered(), _LastMessageHandler()
    exporter_log = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    exporter_log.propagate = False
    exporter_log.addHandler(last_words)
    client = OTLPSpanExporter(endpoint=f"{tracing.endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_S)
    provider = TracerProvider(ALWAYS_ON, Resource.create(_resource(worker)), shutdown_on_exit=False)
    provider.add_span_processor(gathered)
    tracer = provider.get_tracer("canary-gateway", __version__)

    def export(spans: Sequence[Span]) -> str:
        for span in spans:
            parent = _parent(span.origin.trace) if span.origin and span.origin.trace else None
            started = tracer.start_span(
                f"POST {_path(span)}", parent, trace.SpanKind.SERVER, _attributes(span), start_time=span.started_ns
            )
            if span.status >= FIRST_SERVER_ERROR:
                started.set_status(trace.StatusCode.ERROR)
            started.end(span.ended_ns)
            time.sleep(0)  # let the event loop take the interpreter's lock
        ended, gathered.spans = gathered.spans, []
        try:
            taken = client.export(ended) is SpanExportResult.SUCCESS
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "" if taken else last_words.message

    return export


class _LastMessageHandler(logging.Handler):
    """Keeps the exporter's last error, which it logs at each retry; `SpanExporter` logs it once."""

    message = "no reason given"

    def emit(self, record: logging.LogRecord) -> None:
        self.message = record.getMessage()


def _resource(worker: int) -> Mapping[str, str]:
    return {
        "service.name": os.environ.get("OTEL_SERVICE_NAME", "canary-gateway"),
        "service.version": __version__,
        "service.instance.id": f"{os.uname().nodename}-{os.getpid()}",
        "canary_gateway.worker": str(worker),
    }


def _parent(caller: Trace) -> "Context":
    from opentelemetry import trace

    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    context = trace.SpanContext(int(caller.trace_id, 16), int(caller.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(context))


def _path(span: Span) -> str:
    return PINNED_PATH if span.decision.variant is PINNED else PATH


def _attributes(span: Span) -> "Mapping[str, AttributeValue]":
    """HTTP attributes by OpenTelemetry's conventions, and the gateway's own by the names that records use."""
    decision = span.decision
    attributes: dict[str, AttributeValue] = {
        "http.request.method": "POST",
        "http.route": _path(span),
        "http.response.status_code": span.status,
        "canary_gateway.model": span.model,
        "canary_gateway.version": decision.version,
        "canary_gateway.variant": decision.variant.value,
        "canary_gateway.route": decision.route,
        "canary_gateway.outcome": span.outcome.value,
        "canary_gateway.rescued": bool(span.rescued),
        "canary_gateway.batch": span.batch,
        "canary_gateway.queue_us": span.queued_ns // 1000,
    }
    if span.prediction_id:
        attributes["canary_gateway.prediction_id"] = span.prediction_id.decode()
    if span.rescued and span.rescued_from is not None:
        attributes |= {
            "canary_gateway.rescued_from": span.rescued_from,
            "canary_gateway.rescue_reason": span.rescued,
        }
    if span.origin is not None and span.origin.request_id is not None:
        attributes["canary_gateway.request_id"] = span.origin.request_id
    return attributes
