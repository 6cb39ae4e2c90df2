"""Finds out whether a long run on the event loop was caused by the model, or by a busy host that kept the loop waiting.

If the loop's thread has had less processor time than a long run needs since the last sample, taken just before the run,
the host was the cause. Otherwise the run is repeated in a thread and judged by its processor time there, which does not
grow while the thread waits for a core or for the interpreter.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from onnxruntime import RunOptions

from gateway.backends.batch import Batch, BatchItem, Run
from gateway.backends.signature import Feeds

LONG_RUN_NS: Final = 5_000_000  # for a run on the event loop
SAMPLE_INTERVAL_NS: Final = 2_000_000  # the age up to which a sample is used; a sample costs about 0.3 us
VERIFY_TIMEOUT_S: Final = 0.25  # for the repeated run; if it ends undecided, the model is not blamed
log: Final = logging.getLogger("gateway.backends")


class SlowRunDetector:
    """The detector of one version, named by `label` in the log. `threads`: those that ONNX Runtime divides a run among.

    `sample_due_ns` (monotonic): before a run that begins later, call `sample`.
    """

    def __init__(self, label: str, run: Run, threads: int) -> None:
        self._label = label
        self._run = run
        self._threshold_ns = LONG_RUN_NS // threads
        self._sampled_ns = 0
        self.sample_due_ns = 0

    def sample(self, now_ns: int) -> None:
        """Sample the processor time of this thread. Call it on the event loop before a run."""
        self.sample_due_ns = now_ns + SAMPLE_INTERVAL_NS
        self._sampled_ns = time.thread_time_ns()

    @property
    def host_was_busy(self) -> bool:
        """Whether the run that has just ended had too little processor time to be long because of the model."""
        return time.thread_time_ns() - self._sampled_ns < self._threshold_ns

    def verify(self, items: Sequence[BatchItem], ns: int, then: Callable[[bool], None]) -> None:
        """Repeat a run of `items`, which took `ns` on the running event loop, in a thread; then call `then` on the loop
        with the result: whether it takes as long again. Their inputs are copied: once they are answered, those may
        become another call's.
        """
        loop = asyncio.get_running_loop()
        copies = [BatchItem(_copied(item.feeds), item.rows, item.deadline_ns, loop) for item in items]
        batch = Batch(copies, sum(item.rows for item in items), RunOptions())

        def repeat() -> None:
            busy_ns = _cpu_ns(batch, self._run)
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(on_result, busy_ns >= self._threshold_ns)

        def on_result(model_is_slow: bool) -> None:
            timeout.cancel()
            if model_is_slow:
                log.warning(
                    "%s blocked the event loop for %.0f ms; from now on it runs in threads", self._label, ns / 1e6
                )
            then(model_is_slow)

        timeout = loop.call_later(VERIFY_TIMEOUT_S, _terminate, batch)
        try:
            threading.Thread(target=repeat, daemon=True, name="gateway-slow-run").start()
        except RuntimeError:  # no thread can be started: undecided until the next long run
            timeout.cancel()
            loop.call_soon(then, False)


def _copied(feeds: Feeds) -> Feeds:
    return {name: array.copy() for name, array in feeds.items()}


def _terminate(batch: Batch) -> None:
    if batch.options is not None:
        batch.options.terminate = True


def _cpu_ns(batch: Batch, run: Run) -> int:
    before_ns = time.thread_time_ns()
    batch.execute(run)
    return time.thread_time_ns() - before_ns
