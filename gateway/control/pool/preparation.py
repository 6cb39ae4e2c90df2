"""The first phase of applying a generation: all workers load it before any of them switches. A worker that dies counts
as a failure.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from gateway.control.pool.worker_handle import WorkerHandle, WorkerState
from gateway.control.pool.worker_pool import WorkerPool
from gateway.errors import SettingsError
from gateway.messages import ConfigGeneration, Discard, Prepare

REPLACEMENT_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05
log: Final = logging.getLogger("gateway.control.pool")


@contextlib.asynccontextmanager
async def prepare_generation(
    pool: WorkerPool, config: ConfigGeneration, source: str, *, loads: bool
) -> AsyncIterator[Sequence[WorkerHandle]]:
    """Within the block, all serving workers have loaded what `config` needs, and none joins or changes.

    If a worker dies meanwhile, something else may have killed it, so the load is tried once more with its replacement.
    Raises SettingsError if a worker dies again or reports an error. `loads`: one worker loads first, then more.
    """
    for last in (False, True):
        async with pool.changing:
            handles = pool.accepting_handles()
            errors = await pool.broadcast(lambda number: Prepare(number, config), handles, staged=loads, may_die=False)
            if not errors:
                yield handles
                return
            await pool.broadcast(Discard, handles)
        if last or not any(handle.state is WorkerState.DEAD and not handle.end_reason for handle in handles):
            raise SettingsError(source, errors)
        log.error("%s; trying once more", "; ".join(errors))
        await _wait_for_replacements(pool)


async def _wait_for_replacements(pool: WorkerPool) -> None:
    """Wait until the dead workers have been replaced."""
    end_s = time.monotonic() + REPLACEMENT_TIMEOUT_S
    while len(pool.accepting_handles()) < pool.size and time.monotonic() < end_s:
        await asyncio.sleep(POLL_S)
