"""Makes the parts of a worker that its Start message describes."""

from gateway.messages import Start
from gateway.settings.extras import check_tracing
from gateway.worker.models.shared_state import SharedState
from gateway.worker.recorder import Recorder, RecordRings
from gateway.worker.tracing.otlp import exporter
from gateway.worker.tracing.spans import SpanExporter, TracedRecorder


def spans_of(start: Start, head: "memoryview[int]") -> SpanExporter | None:
    """None where no spans are wanted; raises SettingsError where they are and nothing can make them."""
    check_tracing(start.settings.server)
    tracing = start.settings.server.tracing
    return SpanExporter(exporter(tracing, start.worker), head) if tracing else None


def recorder_of(start: Start, shared_state: SharedState, spans: SpanExporter | None) -> Recorder:
    """The recorder on the worker's rings; it also makes spans if there are any."""
    recording = start.token_keys.signer(), start.settings.records, RecordRings.owned(start.rings), shared_state.head
    tracing = start.settings.server.tracing
    return TracedRecorder(spans, tracing.sample, *recording) if spans and tracing else Recorder(*recording)
