"""What the controller of a release is told at each tick. Everything in it is of randomised traffic only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.control.guards.evidence import Classes
from gateway.control.guards.window import Window
from gateway.shm.failure_events import FailureEvent


class FeedbackEvent(NamedTuple):
    """What became known of one prediction, once for each prediction. Times in ns since 1970.

    `decided_ns`, `weight_ppm`, `candidate` and `key` are of the prediction's decision (see FailureEvent); `mark` is of
    the epoch in which it was decided, 0 where that is not known.
    """

    time_ns: int
    decided_ns: int
    weight_ppm: int
    candidate: bool
    key: int | None
    wrong: bool | None
    reward: float | None
    mark: int = 0


class MirrorPair(NamedTuple):
    """Both versions' answers to the same input, of which the truth is known. `mark` as FeedbackEvent's."""

    candidate_wrong: bool
    stable_wrong: bool
    mark: int = 0


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Rows predicted as each class so far, of shape [routes, classes]: routes differ in weight and in what they get."""

    candidate: Classes
    stable: Classes


@dataclass(frozen=True, slots=True)
class Observation:
    """One tick. `epoch` and `stopped` are the switchboard's; `time_ns` is since 1970; sequences hold what is new."""

    time_ns: int
    epoch: int
    stopped: bool
    window: Window
    failures: Sequence[FailureEvent] = ()
    feedback: Sequence[FeedbackEvent] = ()
    pairs: Sequence[MirrorPair] = ()
    classes: ClassCounts | None = None
