"""Who is to blame when a candidate fails: stable, asked next, says so by what it makes of the same request.

Breaker and limits count a failure that stable does not share. Only stable's own verdict on the input acquits: its
error, its refusal, an answer that fails the check that candidates must pass, a run that takes more processor time than
the candidate had, or than stable usually takes, and is not over by the deadline. Its overload, its time-out, the end of
its process acquit no one: a candidate that takes all processors or all memory makes stable fail as well. But nor do
they accuse of being late: in a gateway that has too much to do both versions are. There, silence alone stops. What is
never known (the worker ends first) counts for nothing; a client that goes first changes nothing: stable is asked all
the same.

Comparisons count what fails, shared or not, for the version that the request was drawn for, by the same rules for both:
stable's answer counts as a failure where it fails the check, or takes longer than the candidate might have taken.
So two equal versions fail alike. What stable refuses is the client's mistake, and counts for neither.
"""

from enum import Enum, auto
from typing import Final

from gateway.backends.batch import Answer
from gateway.errors import InvalidOutput, InvalidRequest, ModelFailed, NoMemory, Outcome, ProcessLost, RequestError
from gateway.routing.release import CANDIDATE
from gateway.worker.call import Call
from gateway.worker.recorder import BLAMED, Recorder

EXCUSED: Final = Outcome.EXCUSED
TIMEOUT: Final = Outcome.TIMEOUT


class Attribution(Enum):
    """What stable makes of a request on which the candidate has failed."""

    DOES_WELL = auto()
    FAILS_TOO = auto()
    REFUSES = auto()
    SILENT = auto()  # it had no chance to tell


def verdict_of(error: Exception) -> Attribution:
    """What an error of stable says of the input."""
    if isinstance(error, InvalidRequest):
        return Attribution.REFUSES
    own = isinstance(error, ModelFailed | InvalidOutput) and not isinstance(error, NoMemory)
    return Attribution.FAILS_TOO if own else Attribution.SILENT


def _outcome_of(error: BaseException) -> Outcome:
    """As what a candidate's failure counts; what it refuses and stable answers is an error of its own."""
    if isinstance(error, RequestError) and not isinstance(error, InvalidRequest):
        return error.outcome
    return Outcome.MODEL_ERROR


class Blame:
    """Weighs failures, and tells the guards: by counters, by evidence, by the breaker."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def accuse(self, call: Call, error: BaseException, now_ns: int) -> None:
        """The candidate has failed on the call, which stable is asked next."""
        call.rescued = _outcome_of(error)
        call.accused_ns = now_ns
        call.answers = call.served.breaker.answers

    def lost(self, call: Call, error: ProcessLost, now_ns: int) -> None:
        """The candidate's process has ended with the call in it, or is not there: deaths are judged by themselves
        (guards.breaker.crashes), so neither breaker nor comparisons count the call.
        """
        call.rescued = error.outcome
        assert call.served.release.candidate is not None
        tally = call.served.versions[call.served.release.candidate].tally
        tally.failure(CANDIDATE, error.outcome, now_ns - call.started_ns)
        tally.rescue(error.outcome)

    def rescued(self, call: Call, answer: Answer, finite: bool, ended_ns: int, spent_ns: int) -> None:
        """Stable has answered in the candidate's place, after a run of `spent_ns`.

        `finite`: the answer is known to hold no NaN and no infinity.
        """
        call.version.took(ended_ns - call.asked_ns)
        if call.accused_ns:
            sound = call.version.passes(call.feeds, answer, finite)
            self.settle(call, Attribution.DOES_WELL if sound else Attribution.FAILS_TOO, spent_ns)

    def answered(self, call: Call, answer: Answer, finite: bool, duration_ns: int) -> None:
        """Stable has answered what it was drawn for: late, or not as a candidate may."""
        if call.patience_ns:
            late = call.fair and duration_ns > call.patience_ns
            if late or not call.version.passes(call.feeds, answer, finite):
                self._recorder.failure(call, candidate=False)

    def failed(self, call: Call, error: Exception, outcome: Outcome, spent_ns: int, duration_ns: int) -> None:
        """Stable has failed, or a version that was asked for by its number."""
        if call.accused_ns:
            self.settle(call, verdict_of(error), spent_ns)
        elif outcome in BLAMED and not call.rescued:
            if call.fair or outcome != TIMEOUT:
                self._recorder.failure(call, candidate=False)
            if duration_ns > call.served.slow_after_ns and call.latency_counts:
                self._recorder.slow(call, candidate=False)

    def settle(self, call: Call, verdict: Attribution, spent_ns: int = 0) -> None:
        """It is known what stable makes of the call."""
        served, outcome, failed_ns, call.accused_ns = call.served, Outcome(call.rescued), call.accused_ns, 0
        assert served.release.candidate is not None
        late, took_ns = outcome is TIMEOUT, failed_ns - call.started_ns
        p99_ns = served.stable.pace.p99_ns
        too_much = late and spent_ns >= (call.patience_ns if verdict is not Attribution.SILENT else p99_ns) > 0
        too_little = late and not (call.fair and p99_ns <= call.patience_ns)
        excused = verdict in (Attribution.FAILS_TOO, Attribution.REFUSES) or too_much or too_little
        tally = served.versions[served.release.candidate].tally
        tally.failure(CANDIDATE, EXCUSED if excused else outcome, took_ns)
        tally.rescue(EXCUSED if excused else outcome)
        if verdict is not Attribution.REFUSES:
            if call.fair or not late:
                self._recorder.failure(call, candidate=True)
            if took_ns > served.slow_after_ns:
                self._recorder.slow(call, candidate=True)
        trip = served.breaker.failure(
            call.epoch, call.answers, failed_ns,
            late=late, unanswered=late and not too_much,
            guilty=not excused and (verdict is Attribution.DOES_WELL or not late),
        )  # fmt: skip
        if trip:
            tally.tripped(trip)
            served.switch.trip(call.epoch, trip)
