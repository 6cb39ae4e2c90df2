"""Requests that run elsewhere than their decision alone would have them: too little time, and stable's baseline."""

import asyncio
from dataclasses import replace

from gateway.backends.batch import Answer, BatchItem
from gateway.backends.version import ModelVersion
from gateway.errors import DeadlineExceeded, InvalidRequest
from gateway.routing.buckets import in_baseline
from gateway.routing.release import STABLE
from gateway.worker.call import Call


def assign_unsplit(call: Call) -> None:
    """Give stable a request whose time is too short to be divided, whichever version it was drawn for."""
    served = call.served
    assert served.release.candidate is not None
    served.versions[served.release.candidate].tally.unsplit()
    call.version = served.stable
    call.decision = replace(call.decision, version=call.version.number, variant=STABLE, weight_ppm=0, propensity=1.0)


def send_to_baseline(call: Call, baseline: ModelVersion) -> None:
    """Send a request of stable's to its process if it is in the baseline's share.

    Latencies are compared of the candidate's requests and of the baseline's, as long as both processes are there.
    """
    decision, served = call.decision, call.served
    assert decision.bucket is not None and served.release.candidate is not None
    both = baseline.backend.connected and served.versions[served.release.candidate].backend.connected
    if decision.variant is STABLE:
        if both and in_baseline(decision.bucket, decision.weight_ppm):
            call.version = baseline
            return
        both = False
    call.latency_counts = both


def rerun_in_worker(call: Call, submitted: "asyncio.Future[Answer]") -> BatchItem | None:
    """If the baseline's process has not answered: the same request, run by stable in this worker; else None."""
    error = None if submitted.cancelled() else submitted.exception()
    if error is None or isinstance(error, InvalidRequest):
        return None
    call.latency_counts = isinstance(error, DeadlineExceeded)  # what took too long is slow; else it was not compared
    call.version = call.served.stable
    return call.version.infer(call.feeds, call.deadline_ns)
