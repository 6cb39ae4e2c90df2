"""One host of a fleet does for all what each could do: it is named in a document, which compare-and-set changes.

What it has found is beside its name, for the others. A leader that is cut off acts no longer than its lease, and no
other begins before that has ended, as with the controllers of releases.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from gateway.control.fleet.codec import typed
from gateway.control.fleet.host import HostState
from gateway.control.fleet.leadership import in_contact, is_gone
from gateway.control.fleet.timing import Timing

PROTOCOL: Final = 1
WRITE_NS: Final = 5_000_000_000  # the leader writes at least so often
SILENT_NS: Final = 3 * WRITE_NS  # and a lease: one that has written nothing for so long is replaced, though it beats
NOTHING: Final[Mapping[str, Any]] = {}


class Lead(NamedTuple):
    """As the store holds it. `number` rises with each write of a leader. `leader`: its incarnation, or an empty text.
    `asks`: how often a host has asked the leader to act now. `said`: what the leader has found, a JSON object.
    """

    number: int = 0
    leader: str = ""
    asks: int = 0
    said: Mapping[str, Any] = NOTHING


class Heard(NamedTuple):
    """The number of a leader's latest write, and since when it is the same, on the observer's clock."""

    number: int
    since_ns: int


def next_lead(
    host: HostState,
    lead: Lead,
    heard: Heard,
    now_ns: int,
    timing: Timing,
    *,
    said: Mapping[str, Any] | None,
    asked: bool,
) -> Lead:
    """What this host is to write in the place of `lead`; the same if nothing. `said`: what it has found, None if it has
    not acted yet. `asked`: it asks the leader to act now.
    """
    if not in_contact(host, now_ns):
        return lead
    lead = lead._replace(asks=lead.asks + asked)
    if lead.leader == host.incarnation:
        said = lead.said if said is None else said
        due = said != lead.said or now_ns - heard.since_ns >= WRITE_NS
        return lead._replace(number=lead.number + 1, said=said) if due else lead
    silent = now_ns - heard.since_ns >= max(SILENT_NS, timing.longest_ns)
    if lead.leader and not silent and not is_gone(host, lead.leader, now_ns, timing):
        return lead
    return lead._replace(number=lead.number + 1, leader=host.incarnation)


def encoded(lead: Lead) -> bytes:
    """As it is stored."""
    return orjson.dumps({"protocol": PROTOCOL, **lead._asdict()})


def decoded(data: bytes) -> Lead:
    """Raises ValueError, with a remedy, if the data is damaged or of another protocol."""
    if not data:
        return Lead()
    try:
        found = orjson.loads(data)
        if found["protocol"] != PROTOCOL:
            raise ValueError(f"it is of protocol {found['protocol']}, this gateway knows {PROTOCOL}")
        return Lead(*typed([found[name] for name in Lead._fields], (int, str, int, dict)))
    except (ValueError, TypeError, KeyError) as error:
        problem = f"what the leader has said in the store cannot be read ({type(error).__name__}: {error})"
        raise ValueError(f"{problem}; choose another fleet.name, or delete the data") from None
