"""Runs disk operations in a thread with a timeout, so that control's event loop never blocks on a disk."""

import asyncio
import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from gateway.system.scheduling import raise_niceness

TIMEOUT_S: Final = 5.0
T = TypeVar("T")


class DiskTimeout(OSError):
    """The disk has not answered in time. The operation may still complete later."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(errno.ETIMEDOUT, f"the disk has not answered for {timeout_s:g} s")


class CancelFlag(threading.Event):
    """Set once the caller has timed out, so that the operation can abort itself if it still can (`check`)."""

    def check(self) -> None:
        """Raise OSError (ECANCELED) if the caller has given up. Called by the operation, in the disk thread."""
        if self.is_set():
            raise OSError(errno.ECANCELED, "no one waits for it any more")


class DiskThread:
    """One disk thread. While an operation that timed out blocks it, others fail at once with DiskTimeout.

    `timeout_s`: the timeout of each operation. `set_priority`: sets the thread's priority; called in it first.
    """

    def __init__(
        self, name: str, timeout_s: float = TIMEOUT_S, set_priority: Callable[[], None] = raise_niceness
    ) -> None:
        self._thread = ThreadPoolExecutor(1, name, initializer=set_priority)
        self._thread.submit(int)  # start the thread now: a stop must not fail because none can be created
        self._timeout_s = timeout_s
        self._blocked_by: Future[Any] | None = None

    async def run(self, act: Callable[..., T], *given: object, given_up: CancelFlag | None = None) -> T:
        """Run `act(*given)` in the thread; return its result or raise its error.

        Raises DiskTimeout after the timeout, when `given_up` is set, or at once if the thread is blocked.
        """
        if self._blocked_by is not None and not self._blocked_by.done():
            raise DiskTimeout(self._timeout_s)
        doing = self._thread.submit(act, *given)
        done = asyncio.wrap_future(doing)
        await asyncio.wait([done], timeout=self._timeout_s)  # `wait_for` would cost a task and a turn of the loop
        if done.done():
            return done.result()
        if given_up is not None:
            given_up.set()
        if not doing.cancel():
            self._blocked_by = doing
        done.cancel()
        raise DiskTimeout(self._timeout_s)
