"""Events in true time, and a network that loses, doubles, delays and reorders messages."""

import heapq
from collections.abc import Callable
from random import Random
from typing import Any, Final

from loadtests.fleet.node import Node

MS: Final = 1_000_000


class Network:
    """`slow`: how often a message is late, `loss`: how often it is lost, each of 1."""

    def __init__(self, random: Random, loss: float, slow: float) -> None:
        self.now_ns = 0
        self.random = random
        self.loss = loss
        self.slow = slow
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._events = 0

    def at(self, time_ns: int, event: Callable[..., None], *arguments: Any) -> None:
        """Have `event` happen at a true time."""
        self._events += 1
        heapq.heappush(self._queue, (time_ns, self._events, event, arguments))

    def run(self, until_ns: int) -> None:
        """Let everything happen up to a true time."""
        queue = self._queue
        while queue and queue[0][0] <= until_ns:
            self.now_ns, _, event, arguments = heapq.heappop(queue)
            event(*arguments)
        self.now_ns = until_ns

    def send(self, node: Node, event: Callable[..., None], *arguments: Any) -> None:
        """A message from a host to the store: lost, late or twice by chance."""
        if self.now_ns >= node.mute_until_ns:
            self._deliver(event, arguments, 0)

    def reply(self, node: Node, event: Callable[..., None], *arguments: Any) -> None:
        """A message from the store to a host."""
        if self.now_ns >= node.deaf_until_ns:
            self._deliver(event, arguments, node.lag_ns)

    def _deliver(self, event: Callable[..., None], arguments: tuple[Any, ...], lag_ns: int) -> None:
        chance = self.random.random()
        if chance < self.loss:
            return
        self.at(self.now_ns + lag_ns + self._delay_ns(), event, *arguments)
        if chance > 1 - self.loss / 2:
            self.at(self.now_ns + lag_ns + self._delay_ns(), event, *arguments)

    def _delay_ns(self) -> int:
        """1 to 31 ms; of slow ones most up to 0.5 s, one of eight up to 2.5 s."""
        chance = self.random.random()
        if chance >= self.slow:
            return MS + int(chance * 30 * MS)
        return MS + int(self.random.random() * (2500 if chance < self.slow / 8 else 500) * MS)
