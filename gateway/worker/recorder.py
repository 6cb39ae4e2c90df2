"""Records one worker's predictions: record lines for the data set, and failure events for the guards."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.errors import BodyTooLarge, Outcome, Overloaded, RequestError
from gateway.messages import Rings
from gateway.protocol.classification import NO_CLASS
from gateway.records.line import predictions_bytes
from gateway.records.sampling import SHARE_RESOLUTION, sample_share
from gateway.records.token import Signer, epoch_mark
from gateway.routing.buckets import chance_beside_baseline
from gateway.settings.gateway import RecordsSettings
from gateway.shm.failure_events import FailureEvent, FailureKind, route_id
from gateway.shm.ring import Ring
from gateway.shm.scoreboard import (
    DROPPED,
    EVENTS_DROPPED,
    FEEDBACK_DROPPED,
    FEEDBACK_RECORDED,
    MIRRORS_DROPPED,
    RECORDED,
    THROTTLED,
    TOO_LARGE,
    UNRECORDED,
)
from gateway.worker.call import Call
from gateway.worker.record_lines import Answered, answered_lines, failed_line
from gateway.worker.reply import Reply

LARGE_BYTES: Final = 65536  # bytes; unless their rate is limited, larger records occupy the disk and the writer's core
LINE_BYTES: Final = 2048  # most bytes of a record beside request and response
BASE64_FACTOR: Final = 1.34
UNRECORDED_OUTCOMES: Final = frozenset({Outcome.CLIENT_ERROR, Outcome.OVERLOADED})
EVIDENCE_OUTCOMES: Final = frozenset({Outcome.MODEL_ERROR, Outcome.INVALID_OUTPUT, Outcome.TIMEOUT})
log: Final = logging.getLogger("gateway.worker")


class TokenBucket:
    """A token bucket of bytes: it fills at `per_s` bytes a second, and holds at most those of one second."""

    __slots__ = ("_at_ns", "_left", "_per_s")

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._left = float(per_s)
        self._at_ns = time.monotonic_ns()

    def try_take(self, size: int) -> bool:
        """Take `size` bytes if any are left, even if fewer: a body may exceed a second's bytes. False: none left."""
        now_ns = time.monotonic_ns()
        self._left = min(self._per_s, self._left + (now_ns - self._at_ns) * self._per_s / 1e9)
        self._at_ns = now_ns
        if self._left <= 0:
            return False
        self._left -= size
        return True


@dataclass(frozen=True, slots=True)
class RecordRings:
    """One worker's rings, a stream each. Control is their reader."""

    predictions: Ring
    feedback: Ring
    mirrors: Ring
    events: Ring

    @classmethod
    def owned(cls, paths: Rings) -> "RecordRings":
        """Attach to the rings that control made for this worker, as their one writer."""
        rings = [Ring.attach(path) for path in (paths.predictions, paths.feedback, paths.mirrors, paths.events)]
        for ring in rings:
            ring.own()
        return cls(*rings)


class Recorder:
    """Writes to the rings that control drains, and counts in the worker's `head`. `signer` makes the ids."""

    def __init__(self, signer: Signer, settings: RecordsSettings, rings: RecordRings, head: "memoryview[int]") -> None:
        self.signer = signer
        self._predictions = rings.predictions
        self._feedback = rings.feedback
        self._mirrors = rings.mirrors
        self._events = rings.events
        self._head = head
        self._inputs = settings.inputs
        self._full = settings.inputs == "full"
        self._threshold = round(settings.sample * SHARE_RESOLUTION)
        self._bucket = TokenBucket(settings.large)
        self.must_record = settings.when_full == "refuse"
        self.on_died_alone: Callable[[str, int, bytes], None] = lambda *_: None

    def admit(self, nonce: int, size: int) -> None:
        """Check that a prediction on a body of `size` bytes can be recorded. Called before it runs, if `must_record`.

        Raises Overloaded if the ring is full now, BodyTooLarge if the record could never fit.
        """
        if sample_share(nonce) >= self._threshold:
            return
        line = LINE_BYTES + (int(BASE64_FACTOR * size) if self._full else 0)
        if line > self._predictions.size:
            raise BodyTooLarge(
                f"a body of {size} bytes does not fit into records.ring, {self._predictions.size} bytes, and must be"
                " recorded (records.when_full: refuse); send fewer rows at a time"
            )
        if not self._predictions.fits(line):
            raise self._unrecorded()

    def answered(self, answered: Sequence[Answered]) -> None:
        """Record predictions that are about to be sent, unless `record_or_raise` has. What cannot be is dropped."""
        if not self._threshold:
            return
        if self._threshold < SHARE_RESOLUTION:
            answered = [item for item in answered if sample_share(item[0].nonce) < self._threshold]
        if not answered or self.must_record:
            return
        for call, reply in answered:
            if len(reply.body) + len(call.source.body) > LINE_BYTES:  # small ones are always taken
                answered = [item for item in answered if self._is_recorded(*item)]
                break
        self._record(answered)

    def record_or_raise(self, call: Call, reply: Reply) -> None:
        """Record one prediction if `must_record`, before it is counted anywhere. Raises Overloaded if it cannot be."""
        if sample_share(call.nonce) < self._threshold and self._is_recorded(call, reply):
            self._record([(call, reply)])

    def failed(self, call: Call, error: RequestError, duration_ns: int) -> None:
        """Record a prediction that is answered with an error, other than a client error or a refusal for overload."""
        if error.outcome in UNRECORDED_OUTCOMES or sample_share(call.nonce) >= self._threshold:
            return
        decision = call.decision
        call.prediction_id = self.signer.token(
            call.served.names[decision.route],
            decision,
            call.nonce,
            NO_CLASS,
            bool(call.rescued),
            epoch_mark(call.epoch),
        )
        self._append(failed_line(call, error, duration_ns, self._inputs), 1, strict=False)

    def failure(self, call: Call, *, candidate: bool) -> None:
        """Append a failure event: a version failed on a request that was assigned to it at random."""
        self._event(call, FailureKind.FAILURE, candidate)

    def slow(self, call: Call, *, candidate: bool) -> None:
        """Append a failure event: a randomly assigned request took longer than the guard's threshold."""
        self._event(call, FailureKind.SLOW, candidate)

    def died_alone(self, name: str, version: int, prediction_id: bytes) -> None:
        """Tell control for which prediction the process of a candidate ended."""
        self.on_died_alone(name, version, prediction_id)

    def feedback(self, line: bytes) -> bool:
        """Record feedback; False if it cannot be recorded now."""
        if not self._feedback.append(line):
            return False
        self._head[FEEDBACK_RECORDED] += 1
        return True

    def feedback_dropped(self) -> None:
        """Count a feedback entry that has been refused for good."""
        self._head[FEEDBACK_DROPPED] += 1

    def mirror(self, call: Call, line: bytes) -> None:
        """Record the result of a mirrored request."""
        if sample_share(call.nonce) < self._threshold and not self._mirrors.append(line):
            self._head[MIRRORS_DROPPED] += 1

    def _event(self, call: Call, kind: FailureKind, candidate: bool) -> None:
        decision = call.decision
        if not decision.randomised:
            return
        key = decision.bucket if decision.sticky else None
        weight_ppm = decision.weight_ppm
        if kind is FailureKind.SLOW and call.served.baseline is not None:
            weight_ppm = chance_beside_baseline(weight_ppm)
        slot, route = call.served.switch.slot, route_id(decision.route)
        event = FailureEvent(time.time_ns(), slot, call.epoch, weight_ppm, candidate, kind, key, route)
        if not self._events.append(event.pack()):
            self._head[EVENTS_DROPPED] += 1

    def _is_recorded(self, call: Call, reply: Reply) -> bool:
        """Whether to make a line at all: not if it would not fit, or if there are too many large ones."""
        size = len(reply.body) + (len(call.source.body) if self._full else 0)
        if reply.predictions is not None:
            size += predictions_bytes(reply.predictions)
        if size <= LINE_BYTES:
            return True
        if not self._predictions.fits(size):
            self._drop(size, strict=self.must_record)
            return False
        if size > LARGE_BYTES and not self.must_record and not self._bucket.try_take(size):
            self._head[THROTTLED] += 1
            return False
        return True

    def _record(self, answered: Sequence[Answered]) -> None:
        """Append the lines together if they fit, else one by one, as many as fit."""
        try:
            lines = answered_lines(answered, self._inputs)
        except Exception:  # an unforeseen one must neither cost the others their records nor this one its answer
            if self.must_record:
                raise
            if len(answered) == 1:
                log.exception("a prediction cannot be recorded")
                self._drop(0, strict=False)
                return
        else:
            if len(answered) == 1 or self._predictions.fits(len(lines)):
                self._append(lines, len(answered), strict=self.must_record)
                return
        for item in answered:
            self._record([item])

    def _append(self, lines: bytes, count: int, *, strict: bool) -> None:
        if self._predictions.append(lines):
            self._head[RECORDED] += count
        else:
            self._drop(len(lines), strict=strict)

    def _drop(self, size: int, *, strict: bool) -> None:
        if strict:
            raise self._unrecorded()
        self._head[TOO_LARGE if size > self._predictions.size else DROPPED] += 1

    def _unrecorded(self) -> Overloaded:
        self._head[UNRECORDED] += 1
        return Overloaded(
            "the prediction cannot be recorded now, and is refused because of records.when_full: refuse; try again"
        )
