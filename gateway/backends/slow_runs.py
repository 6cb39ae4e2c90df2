"""Whether a long run on the event loop was the model's doing, or that of a busy host which kept the loop waiting.

Where the loop has had less processor time than a long run takes since the last look at it, just before the run, the
host was. Else the same run is made once more, in a thread, and judged by the processor time that it takes there: that
does not grow while the thread waits for a core or for the interpreter.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from gateway.backends.batch import Batch, Run

LONG_RUN_NS: Final = 5_000_000  # for a run on the event loop
SAMPLE_INTERVAL_NS: Final = (
    2_000_000  # a look at the processor time is no older when a run begins: one costs some 0.3 us
)
VERIFY_TIMEOUT_S: Final = 0.25  # of the second run; what is not proven by then was not the model's doing
log: Final = logging.getLogger("gateway.backends")


class SlowRunDetector:
    """About the version that `label` names. `threads`: between how many ONNX Runtime divides a run."""

    def __init__(self, label: str, run: Run, threads: int) -> None:
        self._label = label
        self._run = run
        self._threshold_ns = LONG_RUN_NS // threads
        self._sampled_ns = 0
        self.sample_due_ns = 0  # on the monotonic clock: a run that begins later is to be looked at before

    def sample(self, now_ns: int) -> None:
        """A run is about to begin on the event loop, whose thread this is."""
        self.sample_due_ns = now_ns + SAMPLE_INTERVAL_NS
        self._sampled_ns = time.thread_time_ns()

    @property
    def host_was_busy(self) -> bool:
        """Whether the run that has just ended cannot have been long by the model's doing."""
        return time.thread_time_ns() - self._sampled_ns < self._threshold_ns

    def verify(self, batch: Batch, ns: int, then: Callable[[bool], None]) -> None:
        """`batch` has taken `ns` on the running event loop, on which `then` is told whether it will again."""
        loop = asyncio.get_running_loop()

        def repeat() -> None:
            busy_ns = _cpu_ns(batch, self._run)
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(settled, busy_ns >= self._threshold_ns)

        def settled(guilty: bool) -> None:
            ending.cancel()
            if guilty:
                log.warning(
                    "%s kept the event loop waiting for %.0f ms; from now on it runs in threads", self._label, ns / 1e6
                )
            then(guilty)

        ending = loop.call_later(VERIFY_TIMEOUT_S, _terminate, batch)
        try:
            threading.Thread(target=repeat, daemon=True, name="gateway-slow-run").start()
        except RuntimeError:  # there is none to be had: nothing is known, so the next long run is looked at again
            ending.cancel()
            loop.call_soon(then, False)


def _terminate(batch: Batch) -> None:
    if batch.options is not None:
        batch.options.terminate = True


def _cpu_ns(batch: Batch, run: Run) -> int:
    before_ns = time.thread_time_ns()
    batch.execute(run)
    return time.thread_time_ns() - before_ns
