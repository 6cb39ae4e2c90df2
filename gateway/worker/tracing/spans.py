"""Spans of answered predictions, and the thread that exports them. No prediction ever waits for it.

The event loop only appends to a bounded queue. All work of OpenTelemetry's SDK, and all waiting for the collector,
happens on the thread.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gateway.errors import Outcome, RequestError
from gateway.records.sampling import SHARE_RESOLUTION, sample_share
from gateway.records.token import Signer
from gateway.routing.release import Decision
from gateway.settings.gateway import RecordsSettings
from gateway.shm.scoreboard import SPANS_DROPPED, SPANS_EXPORTED, SPANS_FAILED
from gateway.worker.call import Call, Origin
from gateway.worker.record_lines import Answered
from gateway.worker.recorder import Recorder, RecordRings

INTERVAL_S: Final = 0.5
MAX_QUEUED: Final = 4096  # most spans that wait, about 2 MB
BATCH_SIZE: Final = 16  # exported at once: it takes 1.4 ms, for most of which the thread holds the interpreter's lock
CLOSE_TIMEOUT_S: Final = 1.0  # for the spans that wait when the worker ends
OK: Final = 200
log: Final = logging.getLogger("gateway.worker.tracing")


class Span(NamedTuple):
    """An answered prediction. Times in ns since 1970; `status`: HTTP's; `batch`: rows that were run together.

    It does not refer to the request: waiting spans would keep its tensors in memory.
    """

    origin: Origin | None
    prediction_id: bytes
    model: str
    decision: Decision
    outcome: Outcome
    status: int
    rescued: str
    rescued_from: int | None
    batch: int
    queued_ns: int
    started_ns: int
    ended_ns: int


Export = Callable[[Sequence[Span]], str]  # returns "" if the collector has accepted them, else why not


class SpanExporter:
    """A queue of spans, and the thread that exports them. `head`: the worker's words on the scoreboard, for counts."""

    def __init__(self, export: Export, head: "memoryview[int]", capacity: int = MAX_QUEUED) -> None:
        self._export = export
        self._head = head
        self._capacity = capacity
        self._waiting: deque[Span] = deque()
        self._ended = threading.Event()
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        """Start the thread. If none can be started, nothing is exported."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self._log_error(f"no thread can be started to export them ({error})")

    def offer(self, span: Span) -> None:
        """Queue a span, or drop and count it if the queue is full."""
        if len(self._waiting) >= self._capacity:
            self._head[SPANS_DROPPED] += 1
        else:
            self._waiting.append(span)

    def close(self) -> None:
        """End the thread, which exports what it can within `CLOSE_TIMEOUT_S`."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)

    def flush(self) -> None:
        """Export all waiting spans. Called on the thread."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_SIZE, len(self._waiting)))]
            try:
                trouble = self._export(batch)
            except Exception as error:  # whatever it is, the thread must go on to export the next batch
                trouble = f"{type(error).__name__}: {error}"
            self._head[SPANS_FAILED if trouble else SPANS_EXPORTED] += len(batch)
            self._log_error(trouble)

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self.flush()
        self.flush()

    def _log_error(self, trouble: str) -> None:
        if trouble and not self._error:
            log.error(
                "spans cannot be sent to server.tracing.endpoint; predictions are served without them: %s", trouble
            )
        elif self._error and not trouble:
            log.info("spans can be sent to server.tracing.endpoint again")
        self._error = trouble


class TracedRecorder(Recorder):
    """A recorder that also makes spans: of requests that the caller samples, and of the share `sample` of those without
    a trace. That share is chosen as records are: if `records.sample` is no smaller, all of it is recorded too.
    """

    def __init__(
        self,
        spans: SpanExporter,
        sample: float,
        signer: Signer,
        settings: RecordsSettings,
        rings: RecordRings,
        head: "memoryview[int]",
    ) -> None:
        super().__init__(signer, settings, rings, head)
        self._spans = spans
        self._traced_share = round(sample * SHARE_RESOLUTION)

    def answered(self, answered: Sequence[Answered]) -> None:
        """As the recorder's; the spans follow the records."""
        super().answered(answered)
        for call, reply in answered:
            if self._is_traced(call):
                self._spans.offer(_span(call, Outcome.OK, OK, reply.rows, reply.queued_ns, reply.duration_ns))

    def failed(self, call: Call, error: RequestError, duration_ns: int) -> None:
        """As the recorder's; the span follows the record."""
        super().failed(call, error, duration_ns)
        if self._is_traced(call):
            self._spans.offer(_span(call, error.outcome, error.status, 0, 0, duration_ns))

    def _is_traced(self, call: Call) -> bool:
        origin = call.source.origin
        if origin is not None and origin.trace is not None:
            return origin.trace.sampled
        return sample_share(call.nonce) < self._traced_share


def _span(call: Call, outcome: Outcome, status: int, batch: int, queued_ns: int, duration_ns: int) -> Span:
    now_ns = time.time_ns()
    served = call.served
    return Span(
        origin=call.source.origin,
        prediction_id=call.prediction_id,
        model=served.name,
        decision=call.decision,
        outcome=outcome,
        status=status,
        rescued=call.rescued,
        rescued_from=served.release.candidate if call.rescued else None,
        batch=batch,
        queued_ns=queued_ns,
        started_ns=now_ns - duration_ns,
        ended_ns=now_ns,
    )
