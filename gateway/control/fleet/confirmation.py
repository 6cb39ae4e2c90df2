"""What is known of a stop when its call returns."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.control.fleet.host import HostState
from gateway.control.fleet.stop_call import StopCall, StopOutcome, outcome, remaining
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
    calls: Sequence[StopCall], host: HostState, now_ns: int, began_ns: int, timing: Timing
) -> Confirmation:
    """`calls`: those of the stop that are not confirmed yet. `began_ns`: when it began."""
    ms = (now_ns - began_ns) / 1e6
    if not calls:
        return Confirmation(StopOutcome.CONFIRMED, max(1, len(host.members)), (), ms)
    worst = min((outcome(call, host, now_ns, timing) for call in calls), key=list(StopOutcome).index)
    left = {one for call in calls for one in remaining(call, host, now_ns, timing)}
    names = {host.members[one].name if one in host.members else one for one in left}
    return Confirmation(worst, 1, tuple(sorted(names)), ms)
