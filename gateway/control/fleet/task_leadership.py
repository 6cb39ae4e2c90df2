"""One host of a fleet does for all what each could do: it is named in a document, which compare-and-set changes.

What it has found is beside its name, for the others. What it does lies outside the store, so no compare-and-set stops
an old leader: it acts only in the lease under which it has written last, and another one takes over only if that write
is older than a beat of its own in which the old one had no lease any more. If the old one has a lease again, it writes
first: of the two writes, the second one fails.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from gateway.control.fleet.codec import of_protocol, typed
from gateway.control.fleet.host import HostState
from gateway.control.fleet.leadership import in_contact, is_gone
from gateway.control.fleet.timing import Timing

PROTOCOL: Final = 1
WRITE_NS: Final = 5_000_000_000  # the leader writes at least so often
SILENT_NS: Final = 3 * WRITE_NS  # and a lease: one that has written nothing for so long is replaced, though it beats
VALID_NS: Final = 2 * WRITE_NS
NOTHING: Final[Mapping[str, Any]] = {}


class Lead(NamedTuple):
    """As the store holds it. `number` rises with each write of a leader. `leader`: its incarnation, or an empty text.
    `asks`: how often a host has asked the leader to act now. `said`: what the leader has found, a JSON object.
    """

    number: int = 0
    leader: str = ""
    asks: int = 0
    said: Mapping[str, Any] = NOTHING


NO_LEAD: Final = Lead()


class Heard(NamedTuple):
    """The number of a leader's latest write, and since when it is the same, on the observer's clock."""

    number: int
    since_ns: int


def silent_ns(timing: Timing) -> int:
    """After so long without a write a leader may be replaced, though it beats."""
    return max(SILENT_NS, timing.longest_ns)


def given_up_ns(timing: Timing) -> int:
    """For how long a leader gives up: long enough for another one that can act, but not for one that cannot."""
    return 2 * silent_ns(timing) - WRITE_NS


def next_lead(
    host: HostState,
    lead: Lead,
    heard: Heard,
    now_ns: int,
    timing: Timing,
    *,
    said: Mapping[str, Any] | None,
    asked: bool,
    confirmed: bool,
    newest: Lead = NO_LEAD,
    unready: Callable[[], bool] = lambda: False,
    gives_up: bool = False,
) -> Lead:
    """What this host is to write in the place of `lead`; the same if nothing. `said`: what it has found, None if it has
    not acted yet. `asked`: it asks the leader to act now. `confirmed`: see `is_confirmed`. `newest`: the latest that
    this host has read; what a store has lost of it is brought back, but for who leads. `unready`: whether this host
    could not act yet, so that it leaves a lead that is free to others for as long as one may be silent, and for twice
    as long one whose leader falls silent. `gives_up`: this host is to leave the lead to another one: it falls silent,
    and so ends to act before that takes over.
    """
    if not in_contact(host, now_ns) or (gives_up and lead.leader == host.incarnation):
        return lead
    if lead.number < newest.number:
        lead = lead._replace(number=newest.number + 1, asks=max(lead.asks, newest.asks), said=newest.said)
    lead = lead._replace(asks=lead.asks + asked)
    if lead.leader == host.incarnation:
        said = lead.said if said is None else said
        due = asked or not confirmed or said != lead.said or now_ns - heard.since_ns >= WRITE_NS
        return lead._replace(number=lead.number + 1, said=said) if due else lead
    beat_ns = host.contact_until_ns - timing.lease_ns  # when the last one was sent: what is known is of then
    gone = heard.since_ns <= beat_ns and is_gone(host, lead.leader, beat_ns, timing)
    held, waited_ns, silent = bool(lead.leader) and not gone, now_ns - heard.since_ns, silent_ns(timing)
    if held and waited_ns < silent:
        return lead
    if waited_ns < (held + 1) * silent and unready():  # what is given up is not for one that could not act either
        return lead
    return lead._replace(number=lead.number + 1, leader=host.incarnation)


def is_confirmed(host: HostState, wrote_ns: int, now_ns: int) -> bool:
    """Whether the leader's write that was begun at `wrote_ns` still says that it is the leader: in an unbroken lease,
    and not for so long that it counts as silent.
    """
    return wrote_ns >= host.steady_since_ns and now_ns - wrote_ns < VALID_NS


def encoded(lead: Lead) -> bytes:
    """As it is stored."""
    return orjson.dumps({"protocol": PROTOCOL, **lead._asdict()})


def decoded(data: bytes) -> Lead:
    """Raises ValueError, with a remedy, if the data is damaged or of another protocol."""
    if not data:
        return NO_LEAD
    try:
        found = of_protocol(data, PROTOCOL)
        return Lead(*typed([found[name] for name in Lead._fields], (int, str, int, dict)))
    except (ValueError, TypeError, KeyError) as error:
        problem = f"what the leader has said in the store cannot be read ({type(error).__name__}: {error})"
        raise ValueError(f"{problem}; choose another fleet.name, or delete the data") from None
