"""The input of a release's controller at each tick. Its events come from randomised traffic only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.control.guards.evidence import Classes
from gateway.control.guards.window import MetricWindow
from gateway.shm.failure_events import NO_ROUTE, FailureEvent


class FeedbackEvent(NamedTuple):
    """New feedback on one prediction, of which each outcome comes once. Times in ns since 1970.

    `decided_ns`, `weight_ppm`, `candidate` and `key` describe the routing decision (see FailureEvent). `mark` tells the
    epoch in which it was made, 0 if unknown. `outcomes`: by name, such as `wrong`, `loss`, `reward`, `metrics.revenue`,
    those that are new. `nonce`: the prediction's. `route`: which took it, "" if unknown.
    """

    time_ns: int
    decided_ns: int
    weight_ppm: int
    candidate: bool
    key: int | None
    outcomes: Mapping[str, float]
    mark: int = 0
    nonce: int = 0
    route: str = ""


class MirrorPair(NamedTuple):
    """Whether each version was wrong on the same mirrored input, whose truth is known. `mark`, `nonce` as in
    FeedbackEvent; `route` as in FailureEvent.
    """

    candidate_wrong: bool
    stable_wrong: bool
    mark: int = 0
    nonce: int = 0
    route: int = NO_ROUTE


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Rows predicted as each class so far, of shape [routes, classes]: routes differ in weight and in their traffic."""

    candidate: Classes
    stable: Classes


Randomised = Mapping[str, tuple[int, int]]
"""Predictions that were assigned at random in the present epoch so far, stable's and the candidate's, by who counted
them: a source counts from 0, and what it says never falls.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The observation of one tick. `time_ns` is since 1970; `epoch` and `stopped` come from the switchboard.

    `failures`, `feedback` and `pairs` hold only events since the last observation. `unheard`: feedback that an earlier
    process has received and not counted, which is no evidence. `randomised`: None if a host does not tell.
    """

    time_ns: int
    epoch: int
    stopped: bool
    window: MetricWindow
    failures: Sequence[FailureEvent] = ()
    feedback: Sequence[FeedbackEvent] = ()
    pairs: Sequence[MirrorPair] = ()
    classes: ClassCounts | None = None
    randomised: Randomised | None = None
    unheard: Sequence[FeedbackEvent] = ()
