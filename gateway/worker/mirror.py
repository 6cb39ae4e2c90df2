"""Copies of requests that stable has answered, run on the candidate in spare capacity; compared, never sent.

A mirrored request neither queues nor delays another: it starts after stable's answer has been handed over, only
if the candidate has a free thread and few copies are in flight, and is dropped (and counted) otherwise.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from gateway.backends.batch import Answer
from gateway.backends.version import ModelVersion
from gateway.errors import GatewayError, ProcessCrashed
from gateway.protocol.classification import NO_CLASS
from gateway.protocol.encode import encode_response
from gateway.protocol.tensors import InferResponse, Tensor
from gateway.records.line import mirror_line
from gateway.settings.model import Kind
from gateway.worker.agreement import agreement
from gateway.worker.call import Call
from gateway.worker.recorder import Recorder

MAX_CONCURRENT: Final = 4  # copies in flight in one worker
_SPREAD: Final = 0xD1B5_4A32_D192_ED03  # other bits than those that sampling reads
_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_PPM: Final = 1_000_000
log: Final = logging.getLogger("gateway.worker")


def is_mirrored(nonce: int, mirror_ppm: int) -> bool:
    """Whether this prediction is randomly selected for mirroring."""
    return (((nonce * _SPREAD) & _MASK) >> 32) * _PPM >> 32 < mirror_ppm


@dataclass(frozen=True, slots=True)
class _MirrorPair:
    """A request that is being copied, and stable's answer to it."""

    call: Call
    prediction_id: bytes
    answer: Answer
    candidate: ModelVersion


class Mirror:
    """Mirrors requests to candidates in one worker."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._running = 0

    def offer(self, call: Call, prediction_id: bytes, answer: Answer) -> None:
        """Copy the request once stable's answer is on its way, if there is spare capacity. Called just before that."""
        number = call.served.release.candidate
        assert number is not None
        candidate = call.served.versions[number]
        if call.served.switch.stopped(call.started_ns):
            return
        if self._running >= MAX_CONCURRENT or not candidate.spare:
            candidate.tally.mirrored("dropped")
            return
        self._running += 1
        pair = _MirrorPair(call, prediction_id, answer, candidate)
        asyncio.get_running_loop().call_soon(self._start, pair)

    def _start(self, pair: _MirrorPair) -> None:
        if not pair.candidate.spare:  # the thread is taken by now, or the candidate is being unloaded
            self._running -= 1
            pair.candidate.tally.mirrored("dropped")
            return
        try:
            feeds = pair.candidate.signature.bind(pair.call.request)
        except GatewayError:
            self._finish(pair, None)
            return
        deadline_ns = time.monotonic_ns() + pair.call.served.rescue_after_ns
        pair.candidate.infer(feeds, deadline_ns).add_done_callback(partial(self._finish, pair))

    def _finish(self, pair: _MirrorPair, copied: "asyncio.Future[Answer] | None") -> None:
        self._running -= 1
        if copied is None or copied.cancelled() or copied.exception() is not None:
            pair.candidate.tally.mirrored("failed")
            error = None if copied is None or copied.cancelled() else copied.exception()
            if isinstance(error, ProcessCrashed) and error.alone:
                self._recorder.died_alone(pair.candidate.name, pair.candidate.number, pair.prediction_id)
            return
        pair.call.served.breaker.answered()
        answer = copied.result()
        predicted: int | float | None = None
        agrees: bool | None = None
        distance: float | None = None
        try:
            predicted = _predicted(pair.candidate, answer)
            distance = _distance(pair, answer)
            agrees = agreement(pair.call.version, pair.answer, pair.candidate, answer, distance)
        except Exception:  # an unforeseen one must not lose the candidate's answer
            log.exception(
                "a mirrored answer of version %d of '%s' cannot be compared", pair.candidate.number, pair.candidate.name
            )
        pair.candidate.tally.mirrored("failed" if agrees is None else "agree" if agrees else "disagree")
        self._record(pair, answer, predicted, agrees, distance)

    def _record(
        self,
        pair: _MirrorPair,
        answer: Answer,
        predicted: int | float | None,
        agrees: bool | None,
        distance: float | None,
    ) -> None:
        version = pair.candidate
        outputs = [
            Tensor(spec.name, spec.datatype, result)
            for spec, result in zip(version.signature.outputs, answer, strict=True)
            if result is not None
        ]
        try:
            response = encode_response(InferResponse(version.name, version.text, outputs)).body
        except GatewayError:  # strings that are not UTF-8
            response = b"null"
        line = mirror_line(
            prediction_id=pair.prediction_id,
            model=version.name,
            version=version.number,
            sha256=version.facts.sha256,
            agreement=agrees,
            distance=distance,
            predicted=predicted,
            response=response,
        )
        self._recorder.mirror(pair.call, line)


def _predicted(version: ModelVersion, answer: Answer) -> int | float | None:
    """The class of a single row, or the number of a regression; None if there is none."""
    main = version.predictions.main
    if main.kind is Kind.REGRESSION:
        numbers = answer[main.position]
        return main.rows(answer)[0] if numbers is not None and numbers.size == 1 else None
    classes = version.classes.predicted(answer)
    return classes[0] if len(classes) == 1 and classes[0] != NO_CLASS else None


def _distance(pair: _MirrorPair, answer: Answer) -> float | None:
    """The mean absolute difference of all floats, relative to stable's mean absolute value; None if not comparable."""
    ours = dict(zip((spec.name for spec in pair.call.version.signature.outputs), pair.answer, strict=True))
    difference = size = 0.0
    count = 0
    for spec, theirs in zip(pair.candidate.signature.outputs, answer, strict=True):
        mine = ours.get(spec.name)
        if mine is None or theirs is None or mine.dtype.kind != "f":
            continue
        if mine.shape != theirs.shape:
            return None
        mine = mine.astype(np.float64)  # a sum of FP16 soon overflows to infinity, beside which any distance is 0
        difference += float(np.abs(mine - theirs).sum())
        size += float(np.abs(mine).sum())
        count += mine.size
    if not count or not np.isfinite(difference):
        return None
    return difference / size if size else float(difference > 0)
