"""Whether versions that other servers run are ready there, asked at most once a second for all clients together."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakKeyDictionary

VALID_S: Final = 1.0


class Asked(Protocol):
    """What runs a version elsewhere (gateway.backends.remote.client)."""

    async def is_ready(self) -> bool:
        """Ask the server, which may take seconds."""


class SharedReadiness:
    """The checks of one worker. Each opens a connection to every address of a version, so that without sharing, clients
    could open any number. `clock` in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checks: WeakKeyDictionary[Asked, asyncio.Task[tuple[bool, float]]] = WeakKeyDictionary()

    async def of(self, backend: Asked) -> bool:
        """What the check under way finds, or the last one if it ended less than VALID_S ago, else a new one."""
        check = self._checks.get(backend)
        if check is None or self._is_over(check):
            check = self._checks[backend] = asyncio.get_running_loop().create_task(self._check(backend))
        ready, _ = await asyncio.shield(check)  # a client that leaves does not end it for the others
        return ready

    async def _check(self, backend: Asked) -> tuple[bool, float]:
        return await backend.is_ready(), self._clock()

    def _is_over(self, check: "asyncio.Task[tuple[bool, float]]") -> bool:
        """Whether its result is too old, or it has none."""
        if not check.done():
            return False
        return check.cancelled() or check.exception() is not None or self._clock() - check.result()[1] >= VALID_S
