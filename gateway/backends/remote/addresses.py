"""The addresses of one server: the calls in flight at each, its connections, and whether it may be asked."""

from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from gateway.backends.remote.connection import Connection

if TYPE_CHECKING:
    from gateway.backends.remote.item import RemoteItem

EJECT_AFTER: Final = 3  # failures in a row


class Address:
    """One address. `waiting`: calls for which no connection is free. `opening`, `connections`: their number."""

    def __init__(self, url: str, head: bytes) -> None:
        self.url = url
        self.head = head
        self.in_flight = 0
        self.idle: list[Connection] = []
        self.opening = 0
        self.connections = 0
        self.waiting: deque[RemoteItem] = deque()
        self.failures = 0  # in a row
        self.ejected = False

    def failed(self) -> bool:
        """Count a failure; returns whether the address is ejected by it."""
        self.failures += 1
        if self.ejected or self.failures < EJECT_AFTER:
            return False
        self.ejected = True
        return True

    def succeeded(self) -> None:
        """Count a response."""
        self.failures = 0
        self.ejected = False


class Addresses:
    """All addresses of one version."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.all = addresses
        self._turn = 0

    def choose(self, but: Collection[Address] = (), *, patient: bool = False) -> Address | None:
        """The one with the fewest calls in flight, in turn among equals; None if all are ejected or in `but`.
        `patient`: an ejected one if there is no other.
        """
        if len(self.all) == 1 and not but:  # nearly always
            (only,) = self.all
            return only if patient or not only.ejected else None
        self._turn += 1
        count = len(self.all)
        turned = [self.all[(self._turn + offset) % count] for offset in range(count)]
        there = [one for one in turned if one not in but]
        found = [one for one in there if not one.ejected] or (there if patient else [])
        return min(found, key=lambda one: one.in_flight, default=None)
