"""Runs something once the event loop has nothing else to do, so that what comes together is done together."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

IDLE_S: Final = 30e-6  # an iteration of the loop that takes less has not handled a request
BUSY_S: Final = 2e-3


class WhenIdle:
    """Runs what `start` is given in the first iteration of the loop that has been empty, or in the first after BUSY_S,
    however busy. `clock`: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._began_s = self._looked_s = 0.0
        self._waits = False

    def start(self, run: Callable[[], None]) -> None:
        """Have `run` called soon, once, however often this is called until then; at once if that is due. It is not kept
        longer: its owner would never be freed.
        """
        if self._waits:
            if self._clock() - self._began_s >= BUSY_S:
                run()
        else:
            self._waits = True
            self._began_s = self._looked_s = self._clock()
            self._loop.call_soon(self._look, run)

    def _look(self, run: Callable[[], None]) -> None:
        now_s = self._clock()
        if now_s - self._looked_s > IDLE_S and now_s - self._began_s < BUSY_S:
            self._looked_s = now_s
            self._loop.call_soon(self._look, run)
        else:
            self._waits = False
            run()
