"""Limits the connections of a server, and chooses which to close so that a new one is accepted.

A connection costs a client no more than a descriptor: one that opens many and sends nothing could lock out everyone
else, even a stop command. So a new connection is always accepted, and the least important of the others is closed.
"""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from gateway.web.unread import has_unread

IDLE, ASKING, READING, ORDERING = range(4)  # states of a connection, in the order in which they are closed
SAFE_METHODS: Final = ("GET", "HEAD")
CLOSE_DIVISOR: Final = 64  # one in so many is closed beyond need, so that not every new one causes a look at all


class LimitedConnection(Protocol):
    """What is read of a connection here."""

    transport: Any
    cycle: Any
    answered_s: float
    made_s: float

    @property
    def has_begun(self) -> bool: ...


def make_room(connections: Iterable[Any], newcomer: LimitedConnection | None, most: int) -> None:
    """Close connections if there are more than `most`, idle ones first.

    `newcomer` is spared, and so are connections on which anything but GET or HEAD is being answered.
    """
    there: list[LimitedConnection] = [each for each in connections if not each.transport.is_closing()]
    if len(there) <= most:
        return
    others = [(_activity(each), max(each.answered_s, each.made_s), each) for each in there if each is not newcomer]
    others.sort(key=lambda one: one[:2])
    for at, _, each in others[: len(there) - most + most // CLOSE_DIVISOR]:
        if at < COMMANDING:
            each.transport.abort()


def _activity(connection: LimitedConnection) -> int:
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        return ASKING if connection.has_begun or has_unread(connection.transport) else IDLE
    if cycle.more_body:
        return ASKING
    scope = getattr(cycle, "scope", None)  # a prediction on the fast path has none
    return READING if scope is not None and scope["method"] in SAFE_METHODS else COMMANDING
