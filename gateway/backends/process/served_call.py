"""One worker's call, on the side of the process that runs it."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.backends.batch import Answer, BatchItem
from gateway.backends.signature import Feeds


class ServedCall(BatchItem):
    """A call. `mark` is called with its number when it is the only one in the process, and with 0 after; `ended` with
    the call when it is done, at once: an iteration of the loop less than a future's callback.
    """

    __slots__ = ("_ended", "mark", "number")

    def __init__(
        self,
        number: int,
        feeds: Feeds,
        deadline_ns: int,
        loop: asyncio.AbstractEventLoop,
        mark: Callable[[int], None],
        ended: Callable[["ServedCall"], None],
    ) -> None:
        super().__init__(feeds, 1, deadline_ns, loop)
        self.number = number
        self.mark = mark
        self._ended = ended

    def set_result(self, result: Answer) -> None:
        """As a future's."""
        super().set_result(result)
        self._ended(self)

    def set_exception(self, exception: Any) -> None:
        """As a future's."""
        super().set_exception(exception)
        self._ended(self)

    def cancel(self, msg: Any = None) -> bool:
        """As a future's."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._ended(self)
        return cancelled
