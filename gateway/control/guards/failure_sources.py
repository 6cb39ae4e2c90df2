"""Which events of an observation each comparison of failures counts, and which of them are of the present epoch."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from gateway.control.guards.evidence import FAILURE_RATIOS, FEEDBACK_RATIOS, PAIRED_SHARE, Ratios
from gateway.control.guards.observation import FeedbackEvent, Observation
from gateway.records.token import EPOCH_MARKS, epoch_mark
from gateway.routing.buckets import BUCKETS
from gateway.settings.metric_names import COMPLAINT
from gateway.shm.failure_events import FailureKind, route_id
from gateway.shm.switchboard import FIRST_EPOCH

RATIOS: Final[Mapping[str, Ratios]] = {
    "failures": FAILURE_RATIOS,
    "slow_requests": FAILURE_RATIOS,
    "complaints": FEEDBACK_RATIOS,
    "mirror_disagreement": FEEDBACK_RATIOS,
}
# weight in ppm, whether it was the candidate's, sticky key, route_id
FailureIterator = Iterator[tuple[int, bool, int | None, int]]


def _failures(kind: FailureKind) -> Callable[[Observation, int], FailureIterator]:
    def failures(seen: Observation, epoch_began_ns: int) -> FailureIterator:
        for event in seen.failures:
            if event.kind == kind and event.epoch == seen.epoch:
                yield event.weight_ppm, event.candidate, event.key, event.route

    return failures


def _complaints(seen: Observation, epoch_began_ns: int) -> FailureIterator:
    for event in seen.feedback:
        if event.outcomes.get(COMPLAINT) and is_of_epoch(event, seen, epoch_began_ns):
            yield event.weight_ppm, event.candidate, event.key, route_id(event.route)


def is_of_epoch(event: FeedbackEvent, seen: Observation, epoch_began_ns: int) -> bool:
    """Whether the prediction was decided in the present epoch, by its mark; without a mark, or with one of another
    gateway that shares our keys, by the decision's time.
    """
    if event.mark == epoch_mark(seen.epoch):
        return True
    return event.mark not in earlier_marks(seen.epoch) and event.decided_ns >= epoch_began_ns


@lru_cache
def earlier_marks(epoch: int) -> frozenset[int]:
    """The marks of earlier epochs, as many as can be told apart from this one's."""
    return frozenset(epoch_mark(former) for former in range(max(FIRST_EPOCH, epoch - EPOCH_MARKS + 1), epoch))


def _disagreed(seen: Observation, epoch_began_ns: int) -> FailureIterator:
    for pair in seen.pairs:
        if pair.candidate_wrong != pair.stable_wrong and pair.mark not in earlier_marks(seen.epoch):
            yield round(PAIRED_SHARE * BUCKETS), pair.candidate_wrong, None, pair.route


FAILURES_BY_METRIC: Final[Mapping[str, Callable[[Observation, int], FailureIterator]]] = {
    "failures": _failures(FailureKind.FAILURE),
    "slow_requests": _failures(FailureKind.SLOW),
    "complaints": _complaints,
    "mirror_disagreement": _disagreed,
}
