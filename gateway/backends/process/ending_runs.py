"""Waits for runs that go on although a call in them is over. One that does not end when told to ends the process."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.backends.batch import Batch
from gateway.backends.process.start import HUNG

POLL_S: Final = 0.02  # between two checks whether the run of a cancelled call has ended
HUNG_POLLS: Final = 100  # after so many checks, a run that was told to end and goes on ends the process
log: Final = logging.getLogger("gateway.backends")


@dataclass(slots=True)
class _Ending:
    """A batch that still runs although a call in it is over. `polls`: the number of checks since it was told to end."""

    batch: Batch
    free: Callable[[], None]
    polls: int = 0


class EndingRuns:
    """The runs of one process that are waited for."""

    def __init__(self) -> None:
        self._ending: list[_Ending] = []
        self._polling = False

    def wait_for(self, batch: Batch, free: Callable[[], None]) -> None:
        """Call `free` when the batch has ended; it may run on after a call in it is over."""
        self._ending.append(_Ending(batch, free))
        self._poll()

    def _poll(self) -> None:
        if self._ending and not self._polling:
            self._polling = True
            asyncio.get_running_loop().call_later(POLL_S, self._look)

    def _look(self) -> None:
        self._polling = False
        ending, self._ending = self._ending, []
        for one in ending:
            if one.batch.ended_ns:
                one.free()
                continue
            if one.batch.options is not None and one.batch.options.terminate:
                one.polls += 1
            if one.polls > HUNG_POLLS:
                log.error("a run has not ended although it was told to: its process ends")
                os._exit(HUNG)
            self._ending.append(one)
        self._poll()
