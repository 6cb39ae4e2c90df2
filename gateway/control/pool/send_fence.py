"""What a stop waits for: no send of a candidate's answer that had begun before it may still be under way."""

import asyncio
import logging
import time
from typing import Final

from gateway.control.pool.worker_pool import WorkerPool
from gateway.shm.switchboard import Switchboard

SPIN_S: Final = 50e-6  # a send takes microseconds: look again before the loop's timers could, which take a millisecond
SPINS: Final = 20
POLL_S: Final = 0.001
WITHIN_S: Final = 1.0  # only a worker that is suspended takes longer
log: Final = logging.getLogger("gateway.control.pool")


async def sends_over(board: Switchboard, pool: WorkerPool) -> None:
    """Wait until every send that has begun has ended, or its worker is dead. A worker that stays in a send is killed:
    it would send the answer whenever it woke up.
    """
    begun = {index: board.sends(index)[0] for index in range(pool.size)}

    def under_way() -> list[int]:
        return [index for index, sends in begun.items() if board.sends(index)[1] < sends and pool.alive(index)]

    waited_for = under_way()
    if not waited_for:
        return
    with pool.boosted_priority(waited_for):
        for _ in range(SPINS):
            time.sleep(SPIN_S)
            if not under_way():
                return
        for last_resort in (False, True):
            end = time.monotonic() + WITHIN_S
            while under_way() and time.monotonic() < end:
                await asyncio.sleep(POLL_S)
            if under_way() and not last_resort:
                log.error(
                    "workers %s stay in a send for %g s and are killed: a stop leaves none behind",
                    under_way(),
                    WITHIN_S,
                )
                pool.kill(under_way())
