"""One call to another server, on the side of the worker."""

import asyncio
from collections.abc import Callable

from gateway.backends.batch import BatchItem
from gateway.backends.remote.addresses import Address
from gateway.backends.remote.connection import Connection
from gateway.backends.remote.signature import RemoteFeeds
from gateway.backends.remote.wire import Body


class RemoteItem(BatchItem):
    """A call. `address`, `connection`: where it is now; `retried`: it has been sent a second time. `forget` is called
    with the item when its caller no longer waits.
    """

    __slots__ = ("_forget", "address", "body", "call", "connection", "retried", "sent_ns")

    def __init__(
        self,
        call: RemoteFeeds,
        body: Body,
        deadline_ns: int,
        loop: asyncio.AbstractEventLoop,
        forget: Callable[["RemoteItem"], None],
    ) -> None:
        super().__init__(call, 1, deadline_ns, loop)
        self._forget = forget
        self.call = call
        self.body = body
        self.address: Address | None = None
        self.connection: Connection | None = None
        self.retried = False
        self.sent_ns = 0

    def _leave(self) -> None:
        self._forget(self)
