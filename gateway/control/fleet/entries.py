"""The entries of a host's log as JSON lists: failures, feedback, mirrored pairs, and what people ask of the ramp.

Feedback is identified by its prediction and its part, so that what is given to two hosts counts once. Marks of
epochs are a host's own: a host leaves out what it knows to be of an earlier epoch, for the rest the decision's time
tells.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from gateway.control.guards.observation import FeedbackEvent, MirrorPair
from gateway.control.guards.outcomes import by_part
from gateway.control.release.stages import Event
from gateway.shm.failure_events import FailureEvent, FailureKind

Entry = list[Any]
FAILURE, FEEDBACK, PAIR, COMMAND = "failure", "feedback", "pair", "command"
LETTERS: Final = {"": "t", "reward": "r"}  # for parts of the feedback in the items' names, as earlier gateways had them
MOST_KNOWN: Final = 50_000  # items of feedback that a host recognises, of one model: 10 MB
MOST_RECENT: Final = 512  # of them, those that the digest names for the next leader


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
    return [FAILURE, epoch, event.time_ns, event.weight_ppm, event.candidate, kind, event.key]


def feedback_entry(event: FeedbackEvent) -> Entry:
    """Without the mark."""
    return [FEEDBACK, event.nonce, *event[:5], dict(event.outcomes), event.route]


def pair_entry(pair: MirrorPair) -> Entry:
    """Without the mark."""
    return [PAIR, pair.nonce, pair.candidate_wrong, pair.stable_wrong]


def command_entry(event: Event, by: str, epoch: int) -> Entry:
    """What a person asks of the ramp. `epoch`: the fleet's."""
    return [COMMAND, str(event), by, epoch]


def is_ripe(entry: Entry, epoch: int) -> bool:
    """Whether the leader, in `epoch`, can count the entry: not yet one of an epoch that it has not seen."""
    match entry:
        case [kind, int(of), *_] if kind == FAILURE:
            return of <= epoch
    return True


class KnownFeedback:
    """The latest items of feedback that this host has seen in any log."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, ids: Iterable[str]) -> None:
        """Recognise these from now on."""
        for one in ids:
            self._ids[one] = None
            if len(self._ids) > MOST_KNOWN:
                self._ids.popitem(last=False)

    def __contains__(self, one: str) -> bool:
        return one in self._ids


def feedback_ids(entries: Iterable[Entry]) -> Iterator[str]:
    """The items of feedback among the entries, as `Batch.ids` has them. Failures, of which there may be many, cost
    little.
    """
    for entry in entries:
        match entry:
            case [kind, int(nonce), _, _, _, _, _, outcomes, last] if kind == FEEDBACK:
                yield from (one for one, _ in _items(nonce, _named(outcomes, last)))
            case [kind, int(nonce), _, _] if kind == PAIR:
                yield f"{nonce}{PAIR}"


def _items(nonce: int, outcomes: Mapping[str, float]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The items that outcomes are of, and the names of those of each: what comes from one truth is one item."""
    for part, names in by_part(tuple(outcomes)):
        yield f"{nonce}{LETTERS.get(part, part)}", names


def _named(outcomes: Any, last: Any) -> dict[str, float]:
    """The outcomes of an entry by name. Earlier gateways wrote whether it was wrong, and last the reward."""
    match outcomes:
        case bool() | None:
            old = {"wrong": outcomes, "reward": last}
            return {name: float(value) for name, value in old.items() if isinstance(value, int | float)}
        case dict() if isinstance(last, str):
            return {name: float(value) for name, value in outcomes.items() if type(value) in (int, float)}
    return {}


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
                ] if kind == FAILURE:
                    what = FailureKind.SLOW if slow else FailureKind.FAILURE
                    failures.append(FailureEvent(time_ns, 0, epoch, weight, candidate, what, key))
                case [
                    kind, int(nonce), int(time_ns), int(decided_ns), int(weight), bool(candidate),
                    int() | None as key, outcomes, last,
                ] if kind == FEEDBACK:  # fmt: skip
                    named = _named(outcomes, last)
                    fresh = [names for one, names in _items(nonce, named) if first(one)]
                    new = {name: named[name] for names in fresh for name in names}
                    if new:
                        route = last if isinstance(last, str) else ""
                        event = FeedbackEvent(time_ns, decided_ns, weight, candidate, key, new, 0, nonce, route)
                        feedback.append(event)
                case [kind, int(nonce), bool(candidate_wrong), bool(stable_wrong)] if kind == PAIR and first(
                    f"{nonce}{PAIR}"
                ):
                    pairs.append(MirrorPair(candidate_wrong, stable_wrong))
                case [kind, event, str(by), int(epoch)] if kind == COMMAND:
                    commands.append(Command(Event(event), by, epoch))
        except ValueError:
            continue
    return Batch(tuple(failures), tuple(feedback), tuple(pairs), tuple(commands), tuple(ids))
