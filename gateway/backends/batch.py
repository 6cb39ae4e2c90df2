"""Requests that run as one: what each of them waits for, and how the rows of the run are handed out again."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from onnxruntime import RunOptions

from gateway.backends.joining import Join, concatenated, cut
from gateway.backends.onnx import Result
from gateway.backends.run_threads import Executor, no_thread
from gateway.backends.signature import Feeds
from gateway.errors import DeadlineExceeded
from gateway.system.scheduling import set_lowest_priority

OVERRUN_NS: Final = 250_000_000  # a run that is not over by then, though it was to end, is in others' way
_clock_of: Callable[[int], int] | None = getattr(time, "pthread_getcpuclockid", None)
Run = Callable[[Feeds, RunOptions | None], list[Result]]


def deadline_exceeded() -> DeadlineExceeded:
    """What a request is answered with at its deadline."""
    return DeadlineExceeded("the deadline passed before the model had answered")


class Answer(list[Result]):
    """One request's outputs, how long it waited for its batch, and the rows of that batch.

    `written`: the outputs as JSON, what follows it, and whether all is finite, where that took long (see reply.write).
    """

    queued_ns = 0
    batch_rows = 1
    written: tuple[bytes, bytes, bool] | None = None


class BatchItem(asyncio.Future[Answer]):
    """One request in the queue, and the future that its caller waits for.

    Cancelling it leaves its batch mates untouched. `measure_cpu`: the processor time of its run is to be measured.
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
        """The processor time that its run has taken so far in its thread, where it is `measure_cpu`."""
        return 0 if self.batch is None else self.batch.cpu_ns

    def cancel(self, msg: Any = None) -> bool:
        """As any future; and no run goes on for no one."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._leave()
        return cancelled

    def expire(self) -> None:
        """The deadline has passed."""
        if not self.done():
            self.set_exception(deadline_exceeded())
            self._leave()

    def _leave(self) -> None:
        if self.batch is not None:
            self.batch.end_if_abandoned()
        else:
            self.feeds = {}  # it stays in its queue until a run has ended: without what it weighs


class _CpuMeter:
    """The processor time of the thread that makes it, from then on; to be read in any thread."""

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
        """Where the system does not tell of other threads (macOS): 0 until it is stopped."""
        clock = self._clock
        return self._ns if clock is None else time.clock_gettime_ns(clock) - self._began_ns


@dataclass(slots=True, eq=False)
class Batch:
    """Items that run together. `answers` has one entry an item: its outputs, or the error of that item alone.

    `options` ends the run from another thread; None where the batch runs on the event loop. `trusted`: should it run
    past its deadline, its thread keeps its priority all the same. `measure_cpu`: its processor time is measured.
    """

    items: list[BatchItem]
    rows: int
    options: RunOptions | None
    trusted: bool = True
    measure_cpu: bool = False
    thread: int = 0
    meter: "_CpuMeter | None" = None
    started_ns: int = 0
    ended_ns: int = 0
    answers: Sequence[list[Result] | Exception] = ()

    def execute(self, run: Run, join: Join = concatenated) -> None:
        """Run the items together; if that fails, one by one, so that a poisoned request fails alone. Any thread."""
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
        """Have it executed; False where there is no thread, which its callers have been told."""
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
        """Items point to their batch, errors to the frame that holds it: else it would wait for the cycle collector."""
        self.items.clear()
        self.answers = ()

    def end_if_abandoned(self) -> None:
        """End the run once no caller waits for it any more."""
        if self.options is not None and all(item.done() for item in self.items):
            self.options.terminate = True
            if not self.trusted and not all(item.cancelled() for item in self.items):
                left_ns = self.started_ns + OVERRUN_NS - time.monotonic_ns()
                if left_ns <= 0:
                    self._demote()
                else:  # it was given little time; most runs end at once now
                    self.items[0].get_loop().call_later(left_ns / 1e9, self._demote)

    def _demote(self) -> None:
        if not self.ended_ns:
            set_lowest_priority(self.thread)

    @property
    def cpu_ns(self) -> int:
        """The processor time of a weighed run so far, in its thread."""
        return 0 if self.meter is None else self.meter.ns

    def _run_joined(self, run: Run, join: Join) -> Sequence[list[Result]]:
        if len(self.items) == 1:
            return [run(self.items[0].feeds, self.options)]
        with join([item.feeds for item in self.items]) as feeds:
            return cut(run(feeds, self.options), self.items)

    def _run_single(self, item: BatchItem, run: Run) -> list[Result] | Exception:
        try:
            return run(item.feeds, self.options)
        except Exception as error:
            return error
