"""Shuts all workers down: each drains, and is killed if that takes too long."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Collection

from gateway.control.pool.worker_handle import WorkerHandle, WorkerState


async def shut_down(handles: Collection[WorkerHandle], drain_s: float, hurry: asyncio.Event) -> None:
    """Have all workers drain for `drain_s` seconds; kill those still alive 2 s later, or 2 s after `hurry` is set."""
    for handle in handles:
        handle.state = WorkerState.DRAINING
        send_signal(handle.process, signal.SIGTERM)
    end = time.monotonic() + drain_s + 2
    while any(handle.process.poll() is None for handle in handles) and time.monotonic() < end:
        if hurry.is_set():
            end = min(end, time.monotonic() + 2)
            for handle in handles:
                send_signal(handle.process, signal.SIGTERM)
            hurry.clear()
        await asyncio.sleep(0.02)
    for handle in handles:
        send_signal(handle.process, signal.SIGKILL)
        handle.process.wait()


def send_signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send the signal unless the process has ended."""
    if process.poll() is None:
        process.send_signal(number)
