"""Requests that run together as one batch: the futures their callers wait for, and the run that resolves them."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from onnxruntime import RunOptions

from gateway.backends.joining import Join, concatenated, split_rows
from gateway.backends.onnx import Result
from gateway.backends.run_threads import Executor, no_thread
from gateway.backends.signature import Feeds
from gateway.errors import DeadlineExceeded
from gateway.system.scheduling import set_lowest_priority

OVERRUN_NS: Final = 250_000_000  # a run that goes on so long, though told to end, gets the lowest priority
_clock_of: Callable[[int], int] | None = getattr(time, "pthread_getcpuclockid", None)
Run = Callable[[Feeds, RunOptions | None], list[Result]]


def deadline_exceeded() -> DeadlineExceeded:
    """The error for a request whose deadline has passed."""
    return DeadlineExceeded("the deadline passed before the model had answered")


class Answer(list[Result]):
    """The outputs of one request, the time it waited for its batch (ns), and the number of rows of that batch.

    `written`: if writing took long, the outputs as JSON, what follows them, and whether all values are finite (see
    reply.write).
    """

    queued_ns = 0
    batch_rows = 1
    written: tuple[bytes, bytes, bool] | None = None


class BatchItem(asyncio.Future[Answer]):
    """One request in the queue, and the future that its caller awaits.

    Cancelling it does not affect other requests of the batch. `measure_cpu`: measure the processor time of its run.
    """

    __slots__ = ("batch", "deadline_ns", "enqueued_ns", "feeds", "measure_cpu", "rows")

    def __init__(self, feeds: Feeds, rows: int, deadline_ns: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.feeds = feeds
        self.rows = rows
        self.enqueued_ns = time.monotonic_ns()
        self.deadline_ns = deadline_ns
        self.batch: Batch | None = None
        self.measure_cpu = False

    @property
    def cpu_ns(self) -> int:
        """The processor time (ns) that its run has taken so far in its thread; 0 without `measure_cpu`."""
        return 0 if self.batch is None else self.batch.cpu_ns

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future, and end its run if no other caller waits for it."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._leave()
        return cancelled

    def expire(self) -> None:
        """Fail with DeadlineExceeded, unless it is done."""
        if not self.done():
            self.set_exception(deadline_exceeded())
            self._leave()

    def _leave(self) -> None:
        if self.batch is not None:
            self.batch.end_if_abandoned()
        else:
            self.feeds = {}  # it stays in its queue until a run has ended, without its memory


class _CpuMeter:
    """Measures the processor time of the thread that creates it, from then on; may be read in any thread."""

    __slots__ = ("_began_ns", "_clock", "_ns")

    def __init__(self) -> None:
        self._clock = _clock_of(threading.get_ident()) if _clock_of else None
        self._ns = 0
        self._began_ns = time.thread_time_ns()

    def stop(self) -> None:
        self._ns = time.thread_time_ns() - self._began_ns
        self._clock = None

    @property
    def ns(self) -> int:
        """The time so far. If the system does not show other threads' times (macOS): 0 until it is stopped."""
        clock = self._clock
        return self._ns if clock is None else time.clock_gettime_ns(clock) - self._began_ns


@dataclass(slots=True, eq=False)
class Batch:
    """Items that run together. `answers` has one entry per item: its outputs, or its error.

    `options` ends the run from another thread; None if the batch runs on the event loop. `trusted`: its thread keeps
    its priority even if the run continues past its deadline. `measure_cpu`: its processor time is measured. `alone`: no
    other batch of the version may run meanwhile.
    """

    items: list[BatchItem]
    rows: int
    options: RunOptions | None
    trusted: bool = True
    measure_cpu: bool = False
    alone: bool = False
    thread: int = 0
    meter: "_CpuMeter | None" = None
    started_ns: int = 0
    ended_ns: int = 0
    answers: Sequence[list[Result] | Exception] = ()

    def execute(self, run: Run, join: Join = concatenated) -> None:
        """Run the items together; if that fails, one by one, so that only the faulty request fails. Any thread."""
        if self.measure_cpu:
            self.meter = _CpuMeter()
        self.started_ns = time.monotonic_ns()
        try:
            self.answers = self._run_joined(run, join)
        except Exception as error:
            self.answers = [error] if len(self.items) == 1 else [self._run_single(item, run) for item in self.items]
        self.ended_ns = time.monotonic_ns()
        if self.meter is not None:
            self.meter.stop()

    def start(self, threads: Executor, execute: "Callable[[Batch], None]") -> bool:
        """Submit the batch to `threads`. If there is no thread, fail its items with Overloaded and return False."""
        try:
            threads.submit(execute, self)
        except RuntimeError as error:
            self._reject(no_thread(error))
            return False
        return True

    def _reject(self, error: Exception) -> None:
        for item in self.items:
            if not item.done():
                item.set_exception(error)
        self.dissolve()

    def dissolve(self) -> None:
        """Drop the references to items and answers: these form cycles, which would wait for the garbage collector."""
        self.items.clear()
        self.answers = ()

    def end_if_abandoned(self) -> None:
        """End the run if no caller waits for it any more."""
        if self.options is not None and all(item.done() for item in self.items):
            self.options.terminate = True
            if not self.trusted and not all(item.cancelled() for item in self.items):
                left_ns = self.started_ns + OVERRUN_NS - time.monotonic_ns()
                if left_ns <= 0:
                    self._demote()
                else:  # most runs end at once now
                    self.items[0].get_loop().call_later(left_ns / 1e9, self._demote)

    def _demote(self) -> None:
        if not self.ended_ns:
            set_lowest_priority(self.thread)

    @property
    def cpu_ns(self) -> int:
        """The processor time (ns) of the run so far, in its thread; 0 unless it is measured."""
        return 0 if self.meter is None else self.meter.ns

    def _run_joined(self, run: Run, join: Join) -> Sequence[list[Result]]:
        if len(self.items) == 1:
            return [run(self.items[0].feeds, self.options)]
        with join([item.feeds for item in self.items]) as feeds:
            return split_rows(run(feeds, self.options), self.items)

    def _run_single(self, item: BatchItem, run: Run) -> list[Result] | Exception:
        try:
            return run(item.feeds, self.options)
        except Exception as error:
            return error
