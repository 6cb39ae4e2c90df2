"""Limits the connections of a server, and chooses which to close so that a new one is accepted.

A descriptor is all that it takes to be connected: whoever opens many and asks nothing would keep everyone else out, a
stop included. So no newcomer is turned away for those; of the others, the one goes that is missed least.
"""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from gateway.web.unread import has_unread

IDLE, ASKING, READING, ORDERING = range(4)  # what a connection is at, in the order in which they are let go
SAFE: Final = ("GET", "HEAD")
AT_ONCE: Final = 64  # at least one in so many goes, so that not every newcomer has all of them looked at


class Connected(Protocol):
    """A connection as far as it matters here."""

    transport: Any
    cycle: Any
    answered_s: float
    made_s: float

    @property
    def has_begun(self) -> bool: ...


def make_room(connections: Iterable[Any], newcomer: Connected | None, most: int) -> None:
    """Let connections go where there are more than `most`: idle ones first; who orders something is spared."""
    there: list[Connected] = [each for each in connections if not each.transport.is_closing()]
    if len(there) <= most:
        return
    others = [(_at(each), max(each.answered_s, each.made_s), each) for each in there if each is not newcomer]
    others.sort(key=lambda one: one[:2])
    for at, _, each in others[: len(there) - most + most // AT_ONCE]:
        if at < ORDERING:
            each.transport.abort()


def _at(connection: Connected) -> int:
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        return ASKING if connection.has_begun or has_unread(connection.transport) else IDLE
    if cycle.more_body:
        return ASKING
    scope = getattr(cycle, "scope", None)  # a prediction on its short way has none
    return READING if scope is not None and scope["method"] in SAFE else ORDERING
