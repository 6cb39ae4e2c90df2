"""Failure attribution: after a candidate fails, stable runs the same request, and its result shows who is at fault.

The breaker and the limit guards count only failures that stable does not share. A failure is excused if stable raises
a model error, refuses the request, or gives an answer that fails the check for candidates. A timeout is also excused if
the candidate's time limit was less than stable's 99th percentile, or if stable's run takes more processor time than
that limit, or is not over by the deadline and takes more than its 99th percentile. Stable's overload, timeout or crash
excuses nothing: a candidate that takes all processors or all memory makes stable fail as well. But none of them proves
a timeout to be the candidate's fault, since an overloaded gateway makes both versions late: then the breaker trips only
if the candidate does not answer at all. If the worker ends before stable's result, the failure is not counted; if the
client disconnects, stable runs all the same.

The comparison guards count every failure, shared or not, for the version that the request was assigned to, by the same
rules for both: an answer of stable counts as a failure if it fails the check or takes longer than the candidate's time
limit. So two equal versions fail equally often. What stable refuses is a client error, and counts for neither.
"""

from enum import Enum, auto
from typing import Final

from gateway.backends.batch import Answer
from gateway.errors import (
    InvalidOutput,
    InvalidRequest,
    ModelFailed,
    NoMemory,
    Outcome,
    ProcessCrashed,
    ProcessLost,
    RequestError,
)
from gateway.routing.release import CANDIDATE
from gateway.worker.call import Call
from gateway.worker.recorder import EVIDENCE_OUTCOMES, Recorder

EXCUSED: Final = Outcome.EXCUSED
TIMEOUT: Final = Outcome.TIMEOUT


class Attribution(Enum):
    """The result of stable on a request on which the candidate has failed."""

    STABLE_SUCCEEDS = auto()
    STABLE_FAILS = auto()
    STABLE_REFUSES = auto()
    UNKNOWN = auto()  # no result on the input: overload, timeout, crash


def attribution_of(error: Exception) -> Attribution:
    """Classify an error of stable: whether it is due to the input."""
    if isinstance(error, InvalidRequest):
        return Attribution.STABLE_REFUSES
    own = isinstance(error, ModelFailed | InvalidOutput) and not isinstance(error, NoMemory)
    return Attribution.STABLE_FAILS if own else Attribution.UNKNOWN


def _outcome_of(error: BaseException) -> Outcome:
    """The outcome that a candidate's failure counts as. InvalidRequest is a model error: stable takes the request."""
    if isinstance(error, RequestError) and not isinstance(error, InvalidRequest):
        return error.outcome
    return Outcome.MODEL_ERROR


class FailureAttribution:
    """Attributes failures in one worker and reports them to the guards: by counters, failure events and the breaker."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def candidate_failed(self, call: Call, error: BaseException, now_ns: int) -> None:
        """Note that the candidate has failed with `error`. The caller submits the call to stable next."""
        call.rescued = _outcome_of(error)
        call.candidate_failed_ns = now_ns
        call.candidate_answers = call.served.breaker.answers

    def lost(self, call: Call, error: ProcessLost, now_ns: int) -> None:
        """The candidate's process has ended with the call in it, or is not there: deaths are judged by themselves
        (guards.breaker.crashes), so neither breaker nor comparisons count the call.
        """
        call.rescued = error.outcome
        call.died_alone = isinstance(error, ProcessCrashed) and error.alone
        assert call.served.release.candidate is not None
        tally = call.served.versions[call.served.release.candidate].tally
        tally.failure(CANDIDATE, error.outcome, now_ns - call.started_ns)
        tally.rescue(error.outcome)

    def stable_answered(self, call: Call, answer: Answer, finite: bool, ended_ns: int, spent_ns: int) -> None:
        """Attribute the candidate's failure, if any, after stable has answered in its place.

        `finite`: the answer is known to hold no NaN and no infinity. `spent_ns`: processor time of stable's run.
        """
        call.version.record_latency(ended_ns - call.rescue_started_ns)
        if call.died_alone and call.served.release.candidate is not None:
            self._recorder.died_alone(call.served.name, call.served.release.candidate, call.prediction_id)
        if call.candidate_failed_ns:
            sound = call.version.is_valid_answer(call.feeds, answer, finite)
            self.settle(call, Attribution.STABLE_SUCCEEDS if sound else Attribution.STABLE_FAILS, spent_ns)

    def answered(self, call: Call, answer: Answer, finite: bool, duration_ns: int) -> None:
        """Count a failure of stable if its answer to its own request is late or fails the check for candidates."""
        if call.candidate_timeout_ns:
            late = call.timeout_is_fair and duration_ns > call.candidate_timeout_ns
            if late or not call.version.is_valid_answer(call.feeds, answer, finite):
                self._recorder.failure(call, candidate=False)

    def record_failure(self, call: Call, error: Exception, outcome: Outcome, spent_ns: int, duration_ns: int) -> None:
        """Handle an error of stable, in its own or the candidate's place, or of a pinned version."""
        if call.candidate_failed_ns:
            self.settle(call, attribution_of(error), spent_ns)
        elif outcome in EVIDENCE_OUTCOMES and not call.rescued:
            if call.timeout_is_fair or outcome != TIMEOUT:
                self._recorder.failure(call, candidate=False)
            if duration_ns > call.served.slow_after_ns and call.latency_counts:
                self._recorder.slow(call, candidate=False)

    def settle(self, call: Call, verdict: Attribution, spent_ns: int = 0) -> None:
        """Count the candidate's failure as `verdict` attributes it, and trip the breaker if need be."""
        served, outcome, failed_ns, call.candidate_failed_ns = (
            call.served,
            Outcome(call.rescued),
            call.candidate_failed_ns,
            0,
        )
        assert served.release.candidate is not None
        late, took_ns = outcome is TIMEOUT, failed_ns - call.started_ns
        p99_ns = served.stable.recent_latency.p99_ns
        too_much = (
            late and spent_ns >= (call.candidate_timeout_ns if verdict is not Attribution.UNKNOWN else p99_ns) > 0
        )
        too_little = late and not (call.timeout_is_fair and p99_ns <= call.candidate_timeout_ns)
        excused = verdict in (Attribution.STABLE_FAILS, Attribution.STABLE_REFUSES) or too_much or too_little
        tally = served.versions[served.release.candidate].tally
        tally.failure(CANDIDATE, EXCUSED if excused else outcome, took_ns)
        tally.rescue(EXCUSED if excused else outcome)
        if verdict is not Attribution.STABLE_REFUSES:
            if call.timeout_is_fair or not late:
                self._recorder.failure(call, candidate=True)
            if took_ns > served.slow_after_ns and call.latency_counts:
                self._recorder.slow(call, candidate=True)
        trip = served.breaker.failure(
            call.epoch, call.candidate_answers, failed_ns,
            timed_out=late, unanswered=late and not too_much,
            guilty=not excused and (verdict is Attribution.STABLE_SUCCEEDS or not late),
        )  # fmt: skip
        if trip:
            tally.tripped(trip)
            served.switch.trip(call.epoch, trip)
