"""Shuts workers down: each drains, and is killed if that takes too long."""

import asyncio
import signal
import time
from collections.abc import Collection
from typing import Protocol


class Process(Protocol):
    """What is needed of a process to end it; a subprocess has it."""

    def poll(self) -> int | None:
        """None while it runs."""

    def send_signal(self, sig: int, /) -> None:
        """Send the signal."""

    def wait(self) -> int:
        """Wait for its end."""


async def shut_down(processes: Collection[Process], drain_s: float, hurry: asyncio.Event) -> None:
    """Have all drain for `drain_s` seconds; kill those still alive 2 s later, or 2 s after `hurry` is set."""
    for process in processes:
        send_signal(process, signal.SIGTERM)
    end = time.monotonic() + drain_s + 2
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        if hurry.is_set():
            end = min(end, time.monotonic() + 2)
            for process in processes:
                send_signal(process, signal.SIGTERM)
            hurry.clear()
        await asyncio.sleep(0.02)
    for process in processes:
        send_signal(process, signal.SIGKILL)
        process.wait()


def send_signal(process: Process, number: signal.Signals) -> None:
    """Send the signal unless the process has ended."""
    if process.poll() is None:
        process.send_signal(number)
