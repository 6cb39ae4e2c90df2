"""What is known of a stop when its call returns."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.control.fleet.host import HostState
from gateway.control.fleet.pending_stops import PendingStop
from gateway.control.fleet.stop_call import StopOutcome, outcome, remaining
from gateway.control.fleet.timing import Timing


@dataclass(frozen=True, slots=True)
class Confirmation:
    """`hosts`: members that the stop holds on, this one included. `missing`: names of those that may still answer from
    the candidate. `ms`: since the call.
    """

    outcome: StopOutcome
    hosts: int
    missing: tuple[str, ...]
    ms: float


def confirmation(
    stops: Sequence[PendingStop], host: HostState, now_ns: int, began_ns: int, timing: Timing
) -> Confirmation:
    """`stops`: of one call, which began at `began_ns`."""
    ms = (now_ns - began_ns) / 1e6
    outcomes = [stop.settled or outcome(stop.call, host, now_ns, timing) for stop in stops]
    worst = min(outcomes, key=list(StopOutcome).index)
    if worst is StopOutcome.CONFIRMED:
        return Confirmation(worst, max(1, len(host.members)), (), ms)
    waiting = [stop.call for stop in stops if stop.settled is None]
    left = {one for call in waiting for one in remaining(call, host, now_ns, timing)}
    names = {host.members[one].name if one in host.members else one for one in left}
    return Confirmation(worst, 1, tuple(sorted(names)), ms)
