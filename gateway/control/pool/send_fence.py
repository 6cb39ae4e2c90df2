"""The fence that ends a stop: waits for every send of a candidate's answer that began before it."""

import asyncio
import logging
import time
from typing import Final

from gateway.control.pool.worker_pool import WorkerPool
from gateway.shm.switchboard import Switchboard

SPIN_S: Final = 50e-6  # a send takes microseconds: spin first, since the loop's timers take a millisecond
SPINS: Final = 20
POLL_S: Final = 0.001
SEND_TIMEOUT_S: Final = 1.0  # only a worker that is suspended takes longer
log: Final = logging.getLogger("gateway.control.pool")


async def wait_for_inflight_sends(board: Switchboard, pool: WorkerPool) -> None:
    """Wait until every send in progress has ended or its worker is dead. A worker that stays in a send for
    SEND_TIMEOUT_S is killed: it would send the candidate's answer whenever it resumed.
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
            end = time.monotonic() + SEND_TIMEOUT_S
            while under_way() and time.monotonic() < end:
                await asyncio.sleep(POLL_S)
            if under_way() and not last_resort:
                log.error(
                    "workers %s stay in a send for %g s and are killed: a stop leaves none behind",
                    under_way(),
                    SEND_TIMEOUT_S,
                )
                pool.kill(under_way())
