"""Sends a numbered command to several workers at once and waits for their acknowledgements."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gateway.control.pool.worker_handle import WorkerHandle
from gateway.messages import Command, Commit, ConfigGeneration, Prepare

ACK_TIMEOUT_S: Final = 3600.0  # a silent worker, or one that loads for too long, is ended long before: see heartbeats


class Broadcaster:
    """Sends commands and collects the acknowledgements. Runs on control's event loop."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def broadcast(
        self,
        make: Callable[[int], Command],
        handles: Sequence[WorkerHandle],
        *,
        staged: bool = False,
        may_die: bool = True,
    ) -> list[str]:
        """Send a command to these workers and wait until each has acknowledged it or died. Returns the errors.

        `may_die` False: a death is an error, since what the worker was loading may have caused it. `staged`: send it to
        one worker first, then to more and more, never to more than half of them at once, so that a command that kills
        its worker leaves others to serve.
        """
        number = next(self._numbers)
        command = make(number)
        for group in _groups(handles) if staged else [handles]:
            if errors := await _broadcast_to(number, command, group, may_die):
                return errors
        return []

    async def catch_up(self, handle: WorkerHandle, config: ConfigGeneration) -> list[str]:
        """Bring a worker that started under an older generation up to `config`, which is in force. Returns the
        errors.
        """
        loads = handle.config.loads
        anew = frozenset(name for name, count in config.loads.items() if loads.get(name) != count)
        errors = await self.broadcast(
            lambda number: Prepare(number, config, catch_up=True, reload=anew), [handle], may_die=False
        )
        errors = errors or await self.broadcast(Commit, [handle], may_die=False)
        if not errors:
            handle.config = config
        return errors


def _groups(handles: Sequence[WorkerHandle]) -> Iterator[Sequence[WorkerHandle]]:
    left, size = list(handles), 1
    while left:
        yield left[:size]
        left = left[size:]
        size = min(2 * size, max(1, len(handles) // 2))


async def _broadcast_to(number: int, command: Command, handles: Sequence[WorkerHandle], may_die: bool) -> list[str]:
    asked = []
    for handle in handles:
        if handle.end_reason or handle.pipe.closed:
            continue
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        handle.pending[number] = answer
        asked.append((handle, answer))
        handle.send(command)
    if asked:
        await asyncio.wait([answer for _, answer in asked], timeout=ACK_TIMEOUT_S)
    errors = {_error(handle, answer, may_die) for handle, answer in asked}
    return sorted(errors - {""})


def _error(handle: WorkerHandle, answer: "asyncio.Future[str | None]", may_die: bool) -> str:
    if not answer.done():
        return f"worker {handle.index} did not answer in time"
    error = answer.result()
    if error is not None:
        return error
    return "" if may_die else death_error(handle)


def death_error(handle: WorkerHandle) -> str:
    """The error for a command during which the worker died, perhaps because of it."""
    loading = handle.last_activity.loading
    if loading is None:
        return (
            f"worker {handle.index} ended while this was being put in force ({handle.end_reason or 'it died'}); nothing"
            " has changed: try again"
        )
    name, version = loading
    return (
        f"models.{name}: version {version}: worker {handle.index} ended while it was loading it"
        f" ({handle.end_reason or 'it died'}), though it loads in a process of its own: is there memory for it in every"
        " worker? Give the host more, set fewer server.workers or take a smaller version, then try again"
    )
