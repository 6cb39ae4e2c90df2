"""Background work that must survive errors: retried with growing pauses, each error logged once.

A process may run out of descriptors, threads or memory for a moment. If that ended a background task for good while
everything else goes on, no one would notice until the task is needed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)  # the last one is repeated
log: Final = logging.getLogger("gateway.system")
T = TypeVar("T")


async def retry_forever(what: str, act: Callable[[], Awaitable[T]]) -> T:
    """Call `act` until it does not raise, and return its result. `what`: for the log, such as "starting worker 1".

    An error is logged if it differs from the last one.
    """
    trouble, failures = "", 0
    while True:
        try:
            result = await act()
        except Exception as error:
            if (now := f"{type(error).__name__}: {error}") != trouble:
                trouble = now
                log.exception("%s has failed, and is tried again until it does not", what)
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1
        else:
            if failures:
                log.info("%s has been done, at attempt %d", what, failures + 1)
            return result
