"""Work in the background that must outlive what goes wrong: tried again with growing pauses, each trouble said once.

A process may have no descriptors, threads or memory to spare for a moment. What ends for ever by that, while the rest
goes on, is missed only when it is needed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)  # the last one from then on
log: Final = logging.getLogger("gateway.system")
T = TypeVar("T")


async def persistent(what: str, act: Callable[[], Awaitable[T]]) -> T:
    """What `act` gives at the first attempt that does not raise. `what`: for the log, such as "starting worker 1"."""
    trouble, failures = "", 0
    while True:
        try:
            result = await act()
        except Exception as error:
            if (now := f"{type(error).__name__}: {error}") != trouble:
                trouble = now
                log.exception("%s has failed, and is tried again until it does not", what)
            await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
            failures += 1
        else:
            if failures:
                log.info("%s has been done, at attempt %d", what, failures + 1)
            return result
