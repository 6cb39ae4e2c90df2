"""One call to a version's process, on the side of the worker that made it."""

import asyncio
from collections.abc import Callable

from gateway.backends.batch import BatchItem
from gateway.backends.signature import Feeds
from gateway.shm.arena import Block


class ProcessItem(BatchItem):
    """A call. `number`: its number on the connection; `block`: holds its inputs; `losses`: how many processes
    have died with it inside. `forget` is called with the item when its caller no longer waits.
    """

    __slots__ = ("_forget", "block", "losses", "number")

    def __init__(
        self,
        feeds: Feeds,
        deadline_ns: int,
        loop: asyncio.AbstractEventLoop,
        forget: Callable[["ProcessItem"], None],
    ) -> None:
        super().__init__(feeds, 1, deadline_ns, loop)
        self._forget = forget
        self.block: Block | None = None
        self.number = 0
        self.losses = 0

    def _leave(self) -> None:
        self._forget(self)
        self.feeds = {}
