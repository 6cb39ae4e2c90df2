"""Joins requests that wait for one model version into batches, runs them, and hands each caller its rows.

All requests parsed in one turn of the event loop form a batch; while a batch runs in a thread, the next one gathers.
"""

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from onnxruntime import RunOptions

from gateway.errors import DeadlineExceeded, InvalidOutput
from gateway.priority import yield_core
from gateway.serving.session import Result
from gateway.serving.signature import Feeds
from gateway.shm.scoreboard import Tally

Run = Callable[[Feeds, RunOptions | None], list[Result]]
ALONE: Final = object()  # the group of items that share no batch


class Answer(list[Result]):
    """One request's outputs, how long it waited for its batch, and the rows of that batch."""

    __slots__ = ("batch_rows", "queued_ns")

    def __init__(self, outputs: list[Result], queued_ns: int, batch_rows: int) -> None:
        super().__init__(outputs)
        self.queued_ns = queued_ns
        self.batch_rows = batch_rows


@dataclass(frozen=True, slots=True)
class BatchingRules:
    """How a version's requests are joined. `max_rows` 1: never. `max_delay_s`: wait this long for company."""

    max_rows: int = 1
    max_delay_s: float = 0.0
    concurrency: int = 1


@dataclass(slots=True, eq=False)
class BatchItem:
    """One request in the queue. `group`: items with an equal one may share a batch."""

    feeds: Feeds
    rows: int
    group: Hashable
    future: "asyncio.Future[Answer]"
    enqueued_ns: int
    deadline_ns: int
    timer: asyncio.TimerHandle | None = None
    batch: "Batch | None" = None


@dataclass(slots=True, eq=False)
class Batch:
    """Items that run together. `answers` has one entry an item: its outputs, or the error of that item alone.

    `options` ends the run from another thread; None where the batch runs on the event loop. `trusted`: should it run
    past its deadline, its thread keeps its priority all the same.
    """

    items: list[BatchItem]
    rows: int
    options: RunOptions | None
    trusted: bool = True
    thread: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    answers: Sequence[list[Result] | Exception] = ()

    def execute(self, run: Run) -> None:
        """Run the items together; if that fails, one by one, so that a poisoned request fails alone. Any thread."""
        self.started_ns = time.monotonic_ns()
        try:
            self.answers = self._together(run)
        except Exception as error:
            self.answers = [error] if len(self.items) == 1 else [self._alone(item, run) for item in self.items]
        self.ended_ns = time.monotonic_ns()

    def end_if_abandoned(self) -> None:
        """End the run once no caller waits for it any more."""
        if self.options is not None and all(item.future.done() for item in self.items):
            self.options.terminate = True
            if not self.trusted and not all(item.future.cancelled() for item in self.items):
                yield_core(self.thread)

    def _together(self, run: Run) -> Sequence[list[Result]]:
        if len(self.items) == 1:
            return [run(self.items[0].feeds, self.options)]
        names = self.items[0].feeds
        feeds = {name: np.concatenate([item.feeds[name] for item in self.items]) for name in names}
        outputs = [output for output in run(feeds, self.options) if output is not None]
        if any(len(output) != self.rows for output in outputs):
            raise InvalidOutput("an output of the batch does not have the batch's rows")
        ends = list(itertools.accumulate(item.rows for item in self.items))
        return [
            [output[end - item.rows : end] for output in outputs] for item, end in zip(self.items, ends, strict=True)
        ]

    def _alone(self, item: BatchItem, run: Run) -> list[Result] | Exception:
        try:
            return run(item.feeds, self.options)
        except Exception as error:
            return error


class Batcher:
    """The queue of one model version. Every method runs on the event loop.

    `threads` None: batches run on the loop itself, which only a stable version with short runs may do. `trusted` False:
    a thread whose run had to be ended at its deadline gets only the time that no one else wants, from then on: what
    hangs once may spin again, and must not take stable's cores.
    """

    def __init__(
        self,
        run: Run,
        rules: BatchingRules,
        tally: Tally,
        threads: ThreadPoolExecutor | None,
        uniform: bool,
        trusted: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._rules = rules
        self._delay_s = rules.max_delay_s
        self._tally = tally
        self._threads = threads
        self._trusted = trusted
        self._uniform = uniform  # all dimensions but the first are fixed: every request may share a batch
        self._groups: dict[Hashable, deque[BatchItem]] = {}
        self._wake: asyncio.Handle | None = None
        self._running: set[Batch] = set()

    @property
    def spare(self) -> bool:
        """Nothing waits for a thread."""
        return not self._groups and len(self._running) < self._rules.concurrency

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._groups and not self._running

    def abandon(self) -> None:
        """Give up on everything that waits or runs: its callers are gone."""
        waiting = [item for queue in self._groups.values() for item in queue]
        for item in [*waiting, *(item for batch in self._running for item in batch.items)]:
            item.future.cancel()
        self._tally.waiting(-len(waiting))
        self._groups.clear()

    def run_now(self, feeds: Feeds) -> Answer:
        """Run one request here and now: only on the event loop, and where no other could have shared its batch.

        Saves two turns of the loop, which are a third of the latency of a small model at one connection.
        """
        started_ns = time.monotonic_ns()
        outputs = self._run(feeds, None)
        rows = 1
        if self._rules.max_rows > 1:
            for array in feeds.values():
                rows = len(array)
                break
        self._tally.batch(rows, min(rows, self._rules.max_rows), time.monotonic_ns() - started_ns)
        return Answer(outputs, 0, rows)

    def submit(self, feeds: Feeds, deadline_ns: int) -> "asyncio.Future[Answer]":
        """Queue one request; the future gets its outputs, or DeadlineExceeded at `deadline_ns` (monotonic clock).

        Cancelling the future leaves its batch mates untouched.
        """
        future = self._loop.create_future()
        rows, group = self._placed(feeds)
        item = BatchItem(feeds, rows, group, future, time.monotonic_ns(), deadline_ns)
        queue = self._groups.get(group)
        if queue is None:
            queue = self._groups[group] = deque()
        queue.append(item)
        self._tally.waiting(1)
        if self._threads is not None:
            future.add_done_callback(partial(_let_go, item))
            item.timer = self._loop.call_later((deadline_ns - item.enqueued_ns) / 1e9, _expire, item)
        if self._wake is None:
            self._wake = self._loop.call_later(self._delay_s, self._flush) if self._delay_s else self._soon()
        elif self._delay_s and sum(waiting.rows for waiting in queue) >= self._rules.max_rows:
            self._wake.cancel()
            self._wake = self._soon()
        return future

    def _soon(self) -> asyncio.Handle:
        return self._loop.call_soon(self._flush)

    def _placed(self, feeds: Feeds) -> tuple[int, Hashable]:
        """The number of rows, and the group. Rows that do not agree or are too many run alone, as they came."""
        if self._rules.max_rows == 1:
            return 1, ALONE
        arrays = list(feeds.values())
        rows = len(arrays[0])
        if not 0 < rows < self._rules.max_rows or (len(arrays) > 1 and any(len(array) != rows for array in arrays)):
            return rows, ALONE
        if self._uniform:
            return rows, None
        return rows, tuple((name, array.shape[1:], array.dtype.kind) for name, array in sorted(feeds.items()))

    def _flush(self) -> None:
        self._wake = None
        while self._groups and (self._threads is None or len(self._running) < self._rules.concurrency):
            batch = self._take()
            if not batch.items:
                continue
            self._running.add(batch)
            if self._threads is None:
                batch.execute(self._run)
                self._finish(batch)
            else:
                self._threads.submit(self._execute, batch)

    def _take(self) -> Batch:
        """The next batch: from the group that was served longest ago, skipping callers that no longer wait."""
        group = next(iter(self._groups))
        queue = self._groups.pop(group)
        batch = Batch([], 0, RunOptions() if self._threads is not None else None, self._trusted)
        now_ns = time.monotonic_ns()
        while queue and (
            not batch.items or (group is not ALONE and batch.rows + queue[0].rows <= self._rules.max_rows)
        ):
            item = queue.popleft()
            self._tally.waiting(-1)
            if item.deadline_ns <= now_ns:
                _expire(item)
            if not item.future.done():
                item.batch = batch
                batch.items.append(item)
                batch.rows += item.rows
        if queue:
            self._groups[group] = queue
        return batch

    def _execute(self, batch: Batch) -> None:
        """In the version's own thread."""
        batch.thread = threading.get_native_id()
        batch.execute(self._run)
        self._loop.call_soon_threadsafe(self._finished, batch)

    def _finished(self, batch: Batch) -> None:
        self._finish(batch)
        if self._groups and self._wake is None:
            self._flush()

    def _finish(self, batch: Batch) -> None:
        self._running.discard(batch)
        self._tally.batch(batch.rows, min(batch.rows, self._rules.max_rows), batch.ended_ns - batch.started_ns)
        for item, answer in zip(batch.items, batch.answers, strict=True):
            if item.timer is not None:
                item.timer.cancel()
            queued_ns = batch.started_ns - item.enqueued_ns
            self._tally.queued(queued_ns)
            if item.future.done():
                continue
            if isinstance(answer, Exception):
                item.future.set_exception(answer)
            else:
                item.future.set_result(Answer(answer, queued_ns, batch.rows))
        batch.items.clear()  # items point to their batch, errors to the frame that holds it: without this, each batch
        batch.answers = ()  # would wait for the cycle collector


def _expire(item: BatchItem) -> None:
    if not item.future.done():
        item.future.set_exception(DeadlineExceeded("the deadline passed before the model had answered"))


def _let_go(item: BatchItem, future: "asyncio.Future[Answer]") -> None:
    if item.batch is not None:
        item.batch.end_if_abandoned()
    elif future.cancelled() or future.exception() is not None:
        item.feeds = {}  # it stays in its queue until a run has ended: without what it weighs
