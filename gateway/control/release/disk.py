"""A thread that waits for a disk so that control's loop never does, and no command for longer than a bound."""

import asyncio
import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from gateway.system.scheduling import raise_niceness

WITHIN_S: Final = 5.0
T = TypeVar("T")


class DiskSilent(OSError):
    """It has not answered in time. What it was asked to do may yet happen, once it answers."""

    def __init__(self, within_s: float) -> None:
        super().__init__(errno.ETIMEDOUT, f"the disk has not answered for {within_s:g} s")


class GivenUp(threading.Event):
    """Set once no one waits any more for what is to be done: it is then left undone, where that is still possible."""

    def check(self) -> None:
        """Raises OSError where no one waits any more."""
        if self.is_set():
            raise OSError(errno.ECANCELED, "no one waits for it any more")


class Disk:
    """One thread. While it is stuck, whatever else is asked of it fails at once. `rank`: called in it first."""

    def __init__(self, name: str, within_s: float = WITHIN_S, rank: Callable[[], None] = raise_niceness) -> None:
        self._thread = ThreadPoolExecutor(1, name, initializer=rank)
        self._thread.submit(int)  # starts the thread: a stop must not fail for want of one
        self._within_s = within_s
        self._stuck: Future[Any] | None = None

    async def do(self, act: Callable[..., T], *given: object, given_up: GivenUp | None = None) -> T:
        """What `act` gives or raises; raises DiskSilent. `given_up` is set then."""
        if self._stuck is not None and not self._stuck.done():
            raise DiskSilent(self._within_s)
        doing = self._thread.submit(act, *given)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(doing)), self._within_s)
        except TimeoutError:
            if given_up is not None:
                given_up.set()
            if not doing.cancel():
                self._stuck = doing
            raise DiskSilent(self._within_s) from None
