"""The entries of a host's log as JSON lists: failures, feedback, mirrored pairs, and what people ask of the ramp.

Feedback is identified by its prediction and its part, so that what is given to two hosts counts once. Marks of
epochs are a host's own: a host leaves out what it knows to be of an earlier epoch, for the rest the decision's time
tells.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.control.guards.observation import FeedbackEvent, MirrorPair
from gateway.control.guards.outcomes import by_part
from gateway.control.release.stages import Event
from gateway.settings.model import MAX_OUTCOME
from gateway.shm.failure_events import NO_ROUTE, FailureEvent, FailureKind

Entry = list[Any]
FAILURE, FEEDBACK, PAIR, COMMAND = "failure", "feedback", "pair", "command"
LETTERS: Final = {"": "t", "reward": "r"}  # for parts of the feedback in the items' names, as earlier gateways had them
MOST_KNOWN: Final = 50_000  # predictions whose feedback a host recognises, of one model: 15 MB
MOST_RECENT: Final = 512  # of them, those whose items the digest names for the next leader
MOST_RECENT_ITEMS: Final = 4096
WITH_ROUTE: Final = ((FAILURE, 8), (PAIR, 5))  # entries of this length end with a route
DIGITS: Final = "0123456789"


class Command(NamedTuple):
    """A person's hold, continue or promotion, given on any host in this epoch of the fleet."""

    event: Event
    by: str
    epoch: int


class Batch(NamedTuple):
    """Entries as the controller takes them in, in order. `ids`: of the feedback among them."""

    failures: tuple[FailureEvent, ...]
    feedback: tuple[FeedbackEvent, ...]
    pairs: tuple[MirrorPair, ...]
    commands: tuple[Command, ...]
    ids: tuple[str, ...]


def failure_entry(event: FailureEvent, epoch: int) -> Entry:
    """`epoch`: the fleet's."""
    kind = event.kind == FailureKind.SLOW
    entry = [FAILURE, epoch, event.time_ns, event.weight_ppm, event.candidate, kind, event.key]
    return with_route(entry, event.route)


def feedback_entry(event: FeedbackEvent) -> Entry:
    """Without the mark."""
    return [FEEDBACK, event.nonce, *event[:5], dict(event.outcomes), event.route]


def pair_entry(pair: MirrorPair) -> Entry:
    """Without the mark."""
    return with_route([PAIR, pair.nonce, pair.candidate_wrong, pair.stable_wrong], pair.route)


def command_entry(event: Event, by: str, epoch: int) -> Entry:
    """What a person asks of the ramp. `epoch`: the fleet's."""
    return [COMMAND, str(event), by, epoch]


def without_route(entry: Entry) -> tuple[Entry, int]:
    """The entry as gateways of the release before know it, and the route that they do not."""
    return (entry[:-1], entry[-1]) if (entry[0], len(entry)) in WITH_ROUTE else (entry, NO_ROUTE)


def with_route(entry: Entry, route: int) -> Entry:
    """The entry with its route, if that is known and it has one."""
    return [*entry, route] if route and entry and (entry[0], len(entry) + 1) in WITH_ROUTE else entry


def is_ripe(entry: Entry, epoch: int) -> bool:
    """Whether the leader, in `epoch`, can count the entry: not yet one of an epoch that it has not seen."""
    match entry:
        case [kind, int(of), *_] if kind == FAILURE:
            return of <= epoch
    return True


class KnownFeedback:
    """The items of feedback that this host has seen in any log, of the latest predictions."""

    def __init__(self) -> None:
        self._parts: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # by prediction

    def add(self, ids: Iterable[str]) -> None:
        """Recognise these from now on."""
        for one in ids:
            nonce, part = _split(one)
            known = self._parts.get(nonce, ())
            if part not in known:
                self._parts[nonce] = (*known, sys.intern(part))
            if len(self._parts) > MOST_KNOWN:
                self._parts.popitem(last=False)

    def __contains__(self, one: str) -> bool:
        nonce, part = _split(one)
        return part in self._parts.get(nonce, ())


def recent(ids: Sequence[str]) -> tuple[str, ...]:
    """Of these items, in order, those of the latest predictions."""
    found, nonces = 0, set()
    for one in reversed(ids[-MOST_RECENT_ITEMS:]):
        nonces.add(_split(one)[0])
        if len(nonces) > MOST_RECENT:
            break
        found += 1
    return tuple(ids[len(ids) - found :])


def _split(one: str) -> tuple[str, str]:
    """The prediction of an item and its part."""
    part = one.lstrip(DIGITS)
    return one[: len(one) - len(part)], part


def feedback_ids(entries: Iterable[Entry]) -> Iterator[str]:
    """The items of feedback among the entries, as `Batch.ids` has them. Failures, of which there may be many, cost
    little.
    """
    for entry in entries:
        match entry:
            case [kind, int(nonce), _, _, _, _, _, outcomes, last] if kind == FEEDBACK:
                yield from (one for one, _ in _items(nonce, _named(outcomes, last)))
            case [kind, int(nonce), _, _, *_] if kind == PAIR:
                yield f"{nonce}{PAIR}"


def _items(nonce: int, outcomes: Mapping[str, float]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The items that outcomes are of, and the names of those of each: what comes from one truth is one item."""
    for part, names in by_part(tuple(outcomes)):
        yield f"{nonce}{LETTERS.get(part) or f'.{part}'}", names


def _named(outcomes: Any, last: Any) -> dict[str, float]:
    """The outcomes of an entry by name. Earlier gateways wrote whether it was wrong, and last the reward."""
    match outcomes:
        case bool() | None:
            old = {"wrong": outcomes, "reward": last}
            return {name: _bounded(value) for name, value in old.items() if isinstance(value, int | float)}
        case dict() if isinstance(last, str):
            return {name: _bounded(value) for name, value in outcomes.items() if type(value) in (int, float)}
    return {}


def _bounded(value: float) -> float:
    return float(max(-MAX_OUTCOME, min(MAX_OUTCOME, value)))


def _route(last: Sequence[Any]) -> int | None:
    """The route at the end of an entry; None if there is something else."""
    return NO_ROUTE if not last else last[0] if len(last) == 1 and type(last[0]) is int else None


def batch(entries: Iterable[Entry], known: KnownFeedback) -> Batch:
    """The entries without feedback that is `known`, or is there twice. What is no entry is left out."""
    failures: list[FailureEvent] = []
    feedback: list[FeedbackEvent] = []
    pairs: list[MirrorPair] = []
    commands: list[Command] = []
    ids: dict[str, None] = {}

    def first(one: str) -> bool:
        fresh = one not in known and one not in ids
        ids[one] = None
        return fresh

    for entry in entries:
        try:
            match entry:
                case [
                    kind,
                    int(epoch),
                    int(time_ns),
                    int(weight),
                    bool(candidate),
                    bool(slow),
                    int() | None as key,
                    *last,
                ] if kind == FAILURE and (route := _route(last)) is not None:
                    what = FailureKind.SLOW if slow else FailureKind.FAILURE
                    failures.append(FailureEvent(time_ns, 0, epoch, weight, candidate, what, key, route))
                case [
                    kind, int(nonce), int(time_ns), int(decided_ns), int(weight), bool(candidate),
                    int() | None as key, outcomes, last,
                ] if kind == FEEDBACK:  # fmt: skip
                    named = _named(outcomes, last)
                    fresh = [names for one, names in _items(nonce, named) if first(one)]
                    new = {name: named[name] for names in fresh for name in names}
                    if new:
                        name = last if isinstance(last, str) else ""
                        event = FeedbackEvent(time_ns, decided_ns, weight, candidate, key, new, 0, nonce, name)
                        feedback.append(event)
                case [kind, int(nonce), bool(candidate_wrong), bool(stable_wrong), *last] if (
                    kind == PAIR and (route := _route(last)) is not None and first(f"{nonce}{PAIR}")
                ):
                    pairs.append(MirrorPair(candidate_wrong, stable_wrong, route=route))
                case [kind, event, str(by), int(epoch)] if kind == COMMAND:
                    commands.append(Command(Event(event), by, epoch))
        except ValueError:
            continue
    return Batch(tuple(failures), tuple(feedback), tuple(pairs), tuple(commands), tuple(ids))
