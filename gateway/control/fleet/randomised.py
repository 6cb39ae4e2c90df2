"""How many predictions each host's processes have assigned at random, beside the other counters in the host's log.

A process counts from 0 in each epoch, so the counts of all processes may come in any order, and again.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.control.fleet.evidence import Log
from gateway.control.guards.observation import Randomised

RANDOMISED: Final = "randomised"


def randomised_counts(counts: Randomised, epoch: int) -> dict[str, Any]:
    """The counts for a log. `epoch`: the fleet's."""
    return {RANDOMISED: {"epoch": epoch, "counts": counts}}


def randomised_of(logs: Mapping[str, Log], settings: str, epoch: int) -> Randomised | None:
    """The counts of the hosts with these settings in this epoch of the fleet; None if one of them does not tell, as
    hosts of the release before, or in no form that is known.
    """
    found: dict[str, tuple[int, int]] = {}
    for log in logs.values():
        if log.settings != settings or not log.counts:  # it has counted nothing yet
            continue
        match log.counts.get(RANDOMISED):
            case {"epoch": int(of), "counts": dict(counts)}:
                for source, told in counts.items() if of == epoch else ():
                    match told:
                        case [int(stable), int(candidate)]:
                            before = found.get(source, (0, 0))  # in another log of the same process
                            found[source] = max(before[0], stable), max(before[1], candidate)
                        case _:
                            return None
            case _:
                return None
    return found
