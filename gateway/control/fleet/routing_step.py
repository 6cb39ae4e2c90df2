"""Which edits of the routing file a host makes, as pure functions: the same on all hosts, whenever they are asked.

An edit is proposed, made on the host where it was given, and then accepted into the model's list, all by compare-and-
set; so the lists are the same everywhere and in one order. Another host makes the edits that it has not made yet

- if their numbers are above that of the edit that it has made last: what a store that went back to an older state has
  once more is not made once more;
- if its entry is as it was before one of them, and each later one goes on from the result of that before it: what was
  written by hand is never overwritten;
- unless hosts that had made the newest one are present and none of them has its result: what all have undone by hand is
  not made again by one that was away.

So hosts whose entries are as before an edit come to the same entry; all others say that they differ.
"""

from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from gateway.control.fleet.routing_state import (
    MOST_KEPT,
    Proposal,
    RoutingCore,
    RoutingEdit,
    RoutingRecord,
    number_of,
)


class Stand(Enum):
    """Of a model's entry on a host."""

    CURRENT = "current"  # all edits are made, or undone by hand since
    BEHIND = "behind"  # some are to be made
    UNDONE = "undone"  # hosts that had made the newest one have undone it by hand
    DIFFERS = "differs"  # some are not made, and the entry is as before none of them


class Elsewhere(NamedTuple):
    """A model's entry on another host that is present: its fingerprint, and the id of the edit made last."""

    entry: str | None
    applied: str


class Due(NamedTuple):
    """`edits`: to be made, in order, if the entry is BEHIND."""

    stand: Stand
    edits: tuple[RoutingEdit, ...] = ()


def due(edits: tuple[RoutingEdit, ...], applied: str, here: str | None, elsewhere: Collection[Elsewhere]) -> Due:
    """`applied`: id of the edit that this host has made last. `here`: the entry's fingerprint, None without one."""
    pending = _pending(edits, applied)
    if not pending or here == pending[-1].after:
        return Due(Stand.CURRENT)
    newest = pending[-1]
    had_made_it = any(other.applied == newest.id for other in elsewhere)
    if had_made_it and all(other.entry != newest.after for other in elsewhere):
        return Due(Stand.UNDONE)
    for place in range(len(pending) - 1, -1, -1):
        if pending[place].before == here:
            return Due(Stand.BEHIND, pending[place:])
        if place and pending[place].before != pending[place - 1].after:
            break  # between the two hosts were edited by hand: what came before is another story
    return Due(Stand.DIFFERS)


def _pending(edits: tuple[RoutingEdit, ...], applied: str) -> tuple[RoutingEdit, ...]:
    for place, edit in enumerate(edits):
        if edit.id == applied:
            return edits[place + 1 :]
    made = number_of(applied)
    return tuple(edit for edit in edits if number_of(edit.id) > made) if made else edits


def next_number(core: RoutingCore, model: str, known: Collection[str]) -> int:
    """Of a model's next edit. `known`: ids of the edits that the hosts have made last; the store may have lost them."""
    return max(map(number_of, (core.newest(model), *known))) + 1


def brought_back(core: RoutingCore, known: Mapping[str, tuple[RoutingEdit, ...]]) -> RoutingCore:
    """The core with the lists that a host has seen in the store, where those are newer: it has lost its latest data."""
    lost = {
        model: edits
        for model, edits in known.items()
        if edits and (not core.newest(model) or number_of(edits[-1].id) > number_of(core.newest(model)))
    }
    return core._replace(edits={**core.edits, **lost}) if lost else core


def proposed(
    core: RoutingCore,
    edit: RoutingEdit,
    incarnation: str,
    present: Collection[str],
    applied: str,
    others: Collection[Elsewhere],
) -> tuple[RoutingCore, str]:
    """The core with the proposal, or why not. `present`: incarnations of hosts that have not ended."""
    stands = core.proposals.get(edit.model)
    if stands is not None and stands.incarnation in present:
        return core, f"an edit of '{edit.model}' by {stands.edit.by} on {stands.edit.host} is under way; try again"
    edits = core.edits.get(edit.model, ())
    match due(edits, applied, edit.before, others).stand:
        case Stand.BEHIND:
            return core, f"an edit by {edits[-1].by} on {edits[-1].host} is not in force here yet; try again"
        case Stand.DIFFERS:
            return core, differs(edits[-1])
    new = Proposal(incarnation, core.newest(edit.model), edit)
    return core._replace(proposals={**core.proposals, edit.model: new}), ""


def accepted(core: RoutingCore, proposal: Proposal) -> tuple[RoutingCore, bool]:
    """The core with the edit accepted, and whether it is: not if another one has come first. A proposal that the store
    has lost may be accepted; one that is accepted already stays so.
    """
    edit = proposal.edit
    edits = core.edits.get(edit.model, ())
    if any(one.id == edit.id for one in edits):
        return core, True
    stands = core.proposals.get(edit.model)
    if stands is not None and stands.edit.id != edit.id:
        return core, False
    if edits and edits[-1].id != proposal.follows:
        return core, False
    core = withdrawn(core, edit)
    return core._replace(edits={**core.edits, edit.model: (*edits, edit)[-MOST_KEPT:]}), True


def undoes(core: RoutingCore, edit: RoutingEdit) -> bool:
    """Whether a host takes back an edit of its own that came second: not if the newest one's result is the same."""
    edits = core.edits.get(edit.model, ())
    return not edits or edits[-1].after != edit.after


def withdrawn(core: RoutingCore, edit: RoutingEdit) -> RoutingCore:
    """The core without the edit's proposal."""
    left = {model: one for model, one in core.proposals.items() if one.edit.id != edit.id}
    return core if len(left) == len(core.proposals) else core._replace(proposals=left)


def differs(edit: RoutingEdit) -> str:
    """Why edits up to this one are not made."""
    return (
        f"the routing file's entry of '{edit.model}' is neither as before the edit by {edit.by} on {edit.host} nor as"
        " after it: it was edited by hand; make it the same as on the other hosts"
    )


def undone(edit: RoutingEdit) -> str:
    """Why an edit is not made once more."""
    return f"the edit by {edit.by} on {edit.host} was undone by hand on the hosts that had made it"


def drifts(me: str, records: Mapping[str, RoutingRecord], present: Collection[str]) -> Iterator[tuple[str, str]]:
    """(host, model) for each model whose entry is another one on a host that is present than on this one."""
    if me not in records or not records[me].revision:
        return  # its file was refused from its start on
    mine = records[me].entries
    for incarnation in sorted(records.keys() & set(present) - {me}, key=lambda one: (records[one].name, one)):
        theirs = records[incarnation].entries
        for model in sorted(mine.keys() | theirs.keys()):
            if mine.get(model) != theirs.get(model) and records[incarnation].revision:
                yield records[incarnation].name, model
