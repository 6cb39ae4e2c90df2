"""Spans of answered predictions, and the thread that exports them. No prediction ever waits for it.

The event loop only appends to a queue that has an end; everything that OpenTelemetry's SDK does, and all waiting for
the collector, is the thread's.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gateway.errors import Outcome, RequestError
from gateway.records.sampling import SHARES, share_of
from gateway.records.token import Signer
from gateway.routing.release import Decision
from gateway.settings.gateway import RecordsSettings
from gateway.shm.scoreboard import SPANS_DROPPED, SPANS_EXPORTED, SPANS_FAILED
from gateway.worker.call import Call, Origin
from gateway.worker.record_lines import Answered
from gateway.worker.recorder import Recorder, RecordRings

INTERVAL_S: Final = 0.5
QUEUE: Final = 4096  # spans that wait, about 2 MB
BATCH: Final = 16  # exported at once: it takes 1.4 ms, for most of which the thread holds the interpreter's lock
LAST_S: Final = 1.0  # for what waits when the worker ends
OK: Final = 200
log: Final = logging.getLogger("gateway.worker.tracing")


class Span(NamedTuple):
    """An answered prediction. Times in ns since 1970; `status` of HTTP; `batch`: rows that were run together.

    Holds nothing of the request itself: spans that wait would keep its tensors.
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


Export = Callable[[Sequence[Span]], str]  # "" where the collector has taken them, else why not


class Spans:
    """A queue of spans, and the thread that exports them. Counts in `head`, the worker's own words."""

    def __init__(self, export: Export, head: "memoryview[int]", capacity: int = QUEUE) -> None:
        self._export = export
        self._head = head
        self._capacity = capacity
        self._waiting: deque[Span] = deque()
        self._ended = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        """Export from now on; where there is no thread for it, none are."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self._tell(f"there is no thread to export them in ({error})")

    def offer(self, span: Span) -> None:
        """Hand a span over, or drop it where too many wait."""
        if len(self._waiting) >= self._capacity:
            self._head[SPANS_DROPPED] += 1
        else:
            self._waiting.append(span)

    def close(self) -> None:
        """Export what waits, as far as that goes within `LAST_S`."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LAST_S)

    def flush(self) -> None:
        """Export all that waits; for the thread."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                trouble = self._export(batch)
            except Exception as error:  # whatever it is, the next batch must find someone who exports it
                trouble = f"{type(error).__name__}: {error}"
            self._head[SPANS_FAILED if trouble else SPANS_EXPORTED] += len(batch)
            self._tell(trouble)

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self.flush()
        self.flush()

    def _tell(self, trouble: str) -> None:
        if trouble and not self._trouble:
            log.error("spans do not reach the collector, predictions go on without: %s", trouble)
        elif self._trouble and not trouble:
            log.info("spans reach the collector again")
        self._trouble = trouble


class TracedRecorder(Recorder):
    """A recorder that hands over spans too: of what the caller traces, and of `sample` of what comes without a trace.

    Those are picked as records are, so what is traced is also recorded where `records.sample` is no smaller.
    """

    def __init__(
        self,
        spans: Spans,
        sample: float,
        signer: Signer,
        settings: RecordsSettings,
        rings: RecordRings,
        head: "memoryview[int]",
    ) -> None:
        super().__init__(signer, settings, rings, head)
        self._spans = spans
        self._traced_share = round(sample * SHARES)

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
        return share_of(call.nonce) < self._traced_share


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
