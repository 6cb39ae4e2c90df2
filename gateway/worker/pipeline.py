"""The path of every prediction: decide, bind, run, fall back to stable if needed (rescue), answer, record."""

import asyncio
import time
from dataclasses import replace
from typing import Final

from gateway.backends.batch import Answer, BatchItem
from gateway.backends.version import ModelVersion
from gateway.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    NotReady,
    Outcome,
    Overloaded,
    ProcessLost,
    RequestError,
)
from gateway.protocol.elements import short
from gateway.protocol.tensors import InferRequest
from gateway.records.token import EPOCH_MARKS, nonces
from gateway.routing.attributes import Attributes
from gateway.routing.buckets import BUCKETS
from gateway.routing.release import CANDIDATE, PINNED, STABLE
from gateway.settings.gateway import LimitsSettings
from gateway.shm.scoreboard import INFLIGHT, SHED
from gateway.shm.tally import UNSTRATIFIED
from gateway.worker.call import Call, RequestSource
from gateway.worker.failure_attribution import Attribution, FailureAttribution
from gateway.worker.mirror import Mirror, is_mirrored
from gateway.worker.models.catalog import ModelCatalog
from gateway.worker.models.served_model import ServedModel
from gateway.worker.models.shared_state import SharedState
from gateway.worker.predicted import predicted_beyond_one_class
from gateway.worker.reassignment import assign_unsplit, rerun_in_worker, send_to_baseline
from gateway.worker.recorder import Recorder
from gateway.worker.reply import Reply, encoded_body

STOPPED: Final = "stopped"


class Pipeline:
    """Serves predictions with the models that `catalog` holds when a request arrives."""

    def __init__(
        self,
        catalog: ModelCatalog,
        limits: LimitsSettings,
        shared_state: SharedState,
        recorder: Recorder,
    ) -> None:
        self.catalog = catalog
        self.recorder = recorder
        self.draining = False
        self.serving = shared_state.serving
        self.inflight = 0
        self.gate = shared_state.gate
        self.head = shared_state.head
        self.limits = limits
        self._max_inflight = limits.inflight
        self._most_classes = limits.classes
        self.timeout_s = limits.timeout
        self._timeout_ns = int(limits.timeout * 1e9)
        self._next_nonce = nonces()
        self._token = self.recorder.signer.token
        self._mirror = Mirror(self.recorder)
        self._attribution = FailureAttribution(self.recorder)

    def admit(self) -> None:
        """Count a request in flight; raises Overloaded beyond `limits.inflight`. Call `release` once it is answered."""
        if self.inflight >= self._max_inflight:
            self.head[SHED] += 1
            raise Overloaded(
                f"{self.inflight} requests are in flight, the most that limits.inflight allows; try again later"
            )
        self.inflight += 1
        self.head[INFLIGHT] = self.inflight

    def release(self) -> None:
        """Count an admitted request out again, once it is answered."""
        self.inflight -= 1
        self.head[INFLIGHT] = self.inflight

    def served(self, name: str) -> ServedModel:
        """The model as it is served now; raises NotFound, or NotReady if its stable version's server is not there."""
        served = self.catalog.models.get(name)
        if served is None:
            if name in self.catalog.unreachable:
                raise NotReady(f"model '{name}' is not ready: {self.catalog.unreachable[name]}")
            raise NotFound(f"model '{name}' is not served; POST /v2/repository/index lists what is")
        return served

    def version(self, name: str, number: int) -> ModelVersion:
        """One version as it is served now; raises NotFound with a message that lists the others."""
        versions = self.served(name).versions
        if number not in versions:
            said = f"is not served in version {number}" if number else "has whole numbers from 1 as its versions"
            raise NotFound(f"model '{name}' {said}; served are {', '.join(map(str, sorted(versions)))}")
        return versions[number]

    def begin(
        self,
        served: ServedModel,
        pinned: int | None,
        request: InferRequest,
        attributes: Attributes,
        source: RequestSource,
    ) -> Call:
        """Decide which version answers (the release's choice, or `pinned`), and check the request against it.

        Raises InvalidRequest; Conflict if a stopped version is pinned; Overloaded or BodyTooLarge if it must be
        recorded and cannot be. Pass the call to `infer_now` or `submit` in the same iteration of the event loop: after
        that the version might be unloaded.
        """
        started_ns = time.monotonic_ns()
        release = served.release
        stopped = served.switch.stopped(started_ns)
        nonce = self._next_nonce()
        if self.recorder.must_record:
            self.recorder.admit(nonce, len(source.body))
        if served.overridable and pinned is None and served.stable.signature.overrides_weights(request):
            pinned = release.stable  # a candidate need not have these weights: it is compared with nothing
        if pinned is None:
            decision = release.decide(attributes, nonce, stopped)
        elif stopped and pinned == release.candidate:
            raise _stopped(served)
        else:
            decision = release.pinned(pinned)
        request.source = source
        call = Call(request, source, attributes, served, decision, nonce, started_ns)
        try:
            self._bind(call)
        except InvalidRequest:
            call.version.tally.failure(decision.variant, Outcome.CLIENT_ERROR, time.monotonic_ns() - started_ns)
            raise
        return call

    def infer_now(self, call: Call) -> Reply:
        """Run the call at once, unbatched, on the event loop; not allowed if it `must_queue`. Raises RequestError."""
        try:
            reply = self._succeed(call, call.version.infer_now(call.feeds, call.deadline_ns))
        except RequestError as error:
            self._fail(call, error)
            raise
        self.recorder.answered(((call, reply),))
        return reply

    def submit(self, call: Call) -> BatchItem:
        """Queue the call with its version's batcher, where it may share a batch."""
        deadline_ns = call.deadline_ns
        if call.decision.variant is CANDIDATE or call.version is call.served.baseline:
            deadline_ns = call.started_ns + call.candidate_timeout_ns  # the rest is for stable in this worker
        return call.version.infer(call.feeds, deadline_ns)

    def rescue(self, call: Call, submitted: "asyncio.Future[Answer]") -> BatchItem | None:
        """Submit the call to stable if the candidate has failed or is stopped; returns the new item, else None.

        Call it once `submitted` is done, inside `gate`, and send the answer within the same `gate`: so no answer of a
        stopped candidate is sent.
        """
        if call.decision.variant is not CANDIDATE or submitted.cancelled():
            return rerun_in_worker(call, submitted) if call.version is call.served.baseline else None
        served, error = call.served, submitted.exception()
        now_ns = time.monotonic_ns()
        if served.switch.stopped(self.gate.now_ns()) or isinstance(error, Conflict):
            call.version.tally.rescue(STOPPED)
            call.rescued = STOPPED
        elif error is None:
            served.breaker.success()
            return None
        elif isinstance(error, ProcessLost):
            self._attribution.lost(call, error, now_ns)
        else:
            self._attribution.candidate_failed(call, error, now_ns)
        call.rescue_started_ns = now_ns
        call.version = served.stable
        call.decision = replace(call.decision, version=served.stable.number, variant=STABLE)
        call.feeds = call.stable_feeds
        item = served.stable.infer(call.feeds, call.deadline_ns)
        item.measure_cpu = call.rescued == Outcome.TIMEOUT
        return item

    def end(self, call: Call, submitted: "asyncio.Future[Answer]") -> Reply:
        """The reply to a submitted call that is done and needs no rescue. Send it after `recorder.answered`.

        Call it inside `gate`, as `rescue`: a call pinned to a candidate that has been stopped since is refused. Raises
        RequestError.
        """
        try:
            if (
                call.decision.variant is PINNED
                and not call.version.stable
                and call.served.switch.stopped(self.gate.now_ns())
            ):
                raise _stopped(call.served)
            return self._succeed(call, submitted.result(), _spent_ns(submitted) if call.candidate_failed_ns else 0)
        except RequestError as error:
            self._fail(call, error, _spent_ns(submitted))
            raise
        except Exception:
            if call.candidate_failed_ns:  # an error of the gateway's own says nothing of the input
                self._attribution.settle(call, Attribution.UNKNOWN)
            raise

    def _bind(self, call: Call) -> None:
        """Bind the inputs to the version's signature, for a candidate also to stable's: clients rely on stable's."""
        request = call.request
        given_ns = self.request_timeout_ns(request) if request.parameters else self._timeout_ns
        call.deadline_ns = call.started_ns + given_ns
        call.epoch = call.served.switch.epoch
        if call.decision.weight_ppm:  # then its patience is worked out, before it matters whom it was drawn for
            budget = call.served.time_budget
            if call.started_ns > budget.expires_ns or budget.request_timeout_ns != given_ns:
                budget.renew(given_ns, call.started_ns)
            call.candidate_timeout_ns, call.timeout_is_fair = budget.candidate_timeout_ns, budget.timeout_is_fair
            if not call.candidate_timeout_ns:
                assign_unsplit(call)
            elif call.served.baseline is not None:
                send_to_baseline(call, call.served.baseline)
        signature = call.version.signature
        if call.decision.variant is CANDIDATE:
            call.stable_feeds = call.served.stable.signature.bind(request)
            if request.outputs is not None:
                call.served.stable.signature.positions(request.outputs)
        call.feeds = signature.bind(request)
        if request.outputs is not None:
            signature.positions(request.outputs)

    def request_timeout_ns(self, request: InferRequest) -> int:
        """How long the request may take. Raises InvalidRequest."""
        timeout_us = request.parameters.get("timeout")
        if timeout_us is None:
            return self._timeout_ns
        if type(timeout_us) is not int or timeout_us <= 0:
            raise InvalidRequest(f"parameters.timeout must be whole microseconds above 0, got {short(timeout_us)}")
        return timeout_us * 1000

    def _fail(self, call: Call, error: RequestError, spent_ns: int = 0) -> None:
        duration_ns = time.monotonic_ns() - call.started_ns
        call.version.tally.failure(call.decision.variant, error.outcome, duration_ns)
        self._attribution.record_failure(call, error, error.outcome, spent_ns, duration_ns)
        self.recorder.failed(call, error, duration_ns)

    def _succeed(self, call: Call, answer: Answer, spent_ns: int = 0) -> Reply:
        decision, served, version, rescued = call.decision, call.served, call.version, call.rescued
        variant, route = decision.variant, decision.route
        names, rows, classes = served.names[route], None, version.classes.predicted(answer)
        if len(classes) == 1 and version.only_classes:
            said = classes[0]
        else:
            said, payload, rows, classes = predicted_beyond_one_class(version, answer, classes)
            names += payload
        mark = call.epoch % EPOCH_MARKS + 1  # epoch_mark, without a call
        token = call.prediction_id = self._token(names, decision, call.nonce, said, rescued != "", mark)
        extra = {"prediction_id": token.decode(), "variant": variant, "route": route}
        body, json_length, finite = encoded_body(call, answer, extra, self._most_classes)
        ended_ns = time.monotonic_ns()
        duration_ns = ended_ns - call.started_ns
        if served.compared:
            if variant is STABLE:
                if rescued:
                    self._attribution.stable_answered(call, answer, finite, ended_ns, spent_ns)
                else:
                    version.record_latency(duration_ns)
                    if served.failures_compared and (
                        duration_ns > call.candidate_timeout_ns
                        or not version.is_valid_answer(call.feeds, answer, finite)
                    ):
                        self._attribution.answered(call, answer, finite, duration_ns)
            elif variant is PINNED and not version.stable:
                served.breaker.answered()
        reply = Reply(call, body, json_length, said, duration_ns, answer.queued_ns, answer.batch_rows, rows)
        if self.recorder.must_record:
            self.recorder.record_or_raise(call, reply)
        version.tally.success(variant, duration_ns, ended_ns)
        if drawn := served.compared and 0 < decision.weight_ppm < BUCKETS and not rescued:
            served.candidate.tally.randomised(call.epoch, variant is CANDIDATE)
        if classes:
            version.tally.classified(served.strata.get(route, UNSTRATIFIED) if drawn else UNSTRATIFIED, classes)
        if (
            served.mirror_ppm
            and variant is STABLE
            and not rescued
            and is_mirrored(call.nonce, served.mirror_ppm)
            and version.is_valid_answer(call.feeds, answer, finite)
        ):
            self._mirror.offer(call, token, answer)  # unless rescued: the candidate has failed already
        if duration_ns > served.slow_after_ns and not rescued and call.latency_counts:
            self.recorder.slow(call, candidate=variant is CANDIDATE)
        return reply


def _spent_ns(submitted: "asyncio.Future[Answer]") -> int:
    return submitted.cpu_ns if isinstance(submitted, BatchItem) else 0


def _stopped(served: ServedModel) -> Conflict:
    version = served.release.candidate
    return Conflict(f"version {version} of '{served.name}' is stopped; resume it, or request another version")
