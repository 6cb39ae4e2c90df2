"""The end of all workers: each drains, and is killed where it takes too long."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Collection

from gateway.control.pool.worker_handle import WorkerHandle, WorkerState


async def end_all(handles: Collection[WorkerHandle], drain_s: float, hurry: asyncio.Event) -> None:
    """Let all drain; kill those that have not ended a while after they should have, or at once on `hurry`."""
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
    """Unless it has ended."""
    if process.poll() is None:
        process.send_signal(number)
