"""On which hosts an edit of the routing file is in force, and why not on the others."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.control.fleet.routing_state import RoutingCore, RoutingEdit, RoutingRecord
from gateway.control.fleet.store_state import Member

AWAY: Final = "is out of contact; it makes the edit when it is back"
WITHOUT: Final = "runs a release without edits over the fleet, or has not had contact yet; edit its file"
NOT_YET: Final = "has not said that it is in force there yet"


@dataclass(frozen=True, slots=True)
class Spread:
    """`hosts`: of the fleet, with this one; `applied`: how many have the edit in force. `missing`: (host, why not) for
    the others. `problem`: why the store may not have the edit; empty if it has. `is_final`: waiting changes nothing.
    """

    hosts: int
    applied: int
    missing: tuple[tuple[str, str], ...]
    problem: str
    is_final: bool


def spread(
    edit: RoutingEdit,
    core: RoutingCore,
    records: Mapping[str, RoutingRecord],
    members: Mapping[str, Member],
    present: Collection[str],
    problem: str,
    *,
    waited: bool,
) -> Spread:
    """What is known of an edit that this host has made. `waited`: hosts have had the time to write their records."""
    ids = [one.id for one in core.edits.get(edit.model, ())]
    if edit.id not in ids:
        return Spread(max(len(members), 1), 1, (), problem or "the fleet's store does not have it yet", False)
    since = set(ids[ids.index(edit.id) :])
    missing, waited_for = [], False
    for incarnation, member in sorted(members.items(), key=lambda item: (item[1].name, item[0])):
        record = records.get(incarnation)
        if record is not None and record.applied.get(edit.model) in since:
            continue
        why = record.waiting.get(edit.model, "") if record is not None else ""
        if record is None and waited and incarnation in present:
            why = WITHOUT
        waited_for |= incarnation in present and not why
        missing.append((member.name, why or (NOT_YET if incarnation in present else AWAY)))
    return Spread(len(members), len(members) - len(missing), tuple(missing), "", not waited_for)
