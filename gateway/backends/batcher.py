"""Joins the waiting requests of one model version into batches, runs them, and returns each caller its rows. All
requests parsed in one iteration of the event loop form a batch; while a batch runs in a thread, the next one fills.
"""

import asyncio
import threading
import time
from collections import deque

from onnxruntime import RunOptions

from gateway.backends.batch import Answer, Batch, BatchItem, Run, deadline_exceeded
from gateway.backends.batch_groups import ALONE, UNBATCHED, BatchGroups, Group
from gateway.backends.batch_watch import BatchWatch, Unwatched
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.deadline_alarm import NEVER_NS, DeadlineAlarm
from gateway.backends.joining import Join, concatenated
from gateway.backends.loop_limits import LoopLimits
from gateway.backends.run_threads import Executor
from gateway.backends.signature import Feeds
from gateway.backends.slow_runs import LONG_RUN_NS, SlowRunDetector
from gateway.shm.tally import Tally


class Batcher:
    """The queue of one model version. Every method runs on the event loop.

    `threads` None: batches run on the event loop, for a stable version with short runs. Then `threaded`, the batcher
    that runs in threads, gets the requests that exceed `limits`, all while one runs alone, and all once `detector` has
    found that a run on the loop was long because of the model. `trusted` False: a thread still running OVERRUN_NS after
    it started, although cancelled at its deadline, gets only idle processor time: it may spin on stable's cores.
    """

    where = ""
    connected = True

    def __init__(
        self,
        run: Run,
        rules: BatchingRules,
        tally: Tally,
        threads: Executor | None,
        uniform: bool,
        trusted: bool = True,
        limits: LoopLimits | None = None,
        threaded: "Batcher | None" = None,
        detector: SlowRunDetector | None = None,
        inputs: int | None = None,
        join: Join = concatenated,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._join = join
        self._rules = rules
        self._delay_s = rules.max_delay_s
        self._tally = tally
        self._threads = threads
        self._trusted = trusted
        self._limits = limits
        self._threaded = threaded
        self._detector = detector
        self._all_threaded = False  # every request goes to `threaded`
        self._set_queueing(threads is not None or self._delay_s > 0)
        self._group_of = BatchGroups(rules.max_rows, uniform, inputs).of
        self._groups: dict[Group, deque[BatchItem]] = {}
        self._wake: asyncio.Handle | None = None
        self._alarm = DeadlineAlarm(self._loop, self)
        self._running: set[Batch] = set()
        self._watch: BatchWatch = Unwatched()

    def _set_queueing(self, waits: bool) -> None:
        """`waits`: every request must queue; else one alone in a body of up to `small_body` bytes need not."""
        self._queue_always = waits
        self.small_body = -1 if waits or self._limits is None else self._limits.small_body

    def set_watch(self, watch: BatchWatch) -> None:
        """Have `watch` told of each run."""
        for batcher in (self, self._threaded):
            if batcher is not None:
                batcher._watch = watch

    @property
    def on_loop(self) -> bool:
        """Whether short requests run on the event loop."""
        return self._threads is None

    @property
    def spare(self) -> bool:
        """Whether a request would run at once: nothing is queued, and a run is free."""
        free = not self._groups and len(self._running) < self._rules.concurrency
        return free and (self._threaded is None or self._threaded.spare)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued and nothing runs."""
        return not self._groups and not self._running and (self._threaded is None or self._threaded.idle)

    def abandon(self) -> None:
        """Cancel everything that is queued or runs: its callers are gone."""
        for item in self._items():
            item.cancel()
        self._purge_done()
        if self._threaded is not None:
            self._threaded.abandon()

    def close(self) -> None:
        """Does nothing: threads and session end with the last reference."""

    def must_queue(self, feeds: Feeds) -> bool:
        """Whether a request may not `run_now`, even if it comes alone."""
        return self._queue_always or self._is_large(feeds)

    def run_now(self, feeds: Feeds, deadline_ns: int) -> Answer:
        """Run one request now, which saves an iteration of the loop. Raises DeadlineExceeded at `deadline_ns`."""
        started_ns = time.monotonic_ns()
        if (detector := self._detector) is not None and started_ns > detector.sample_due_ns:
            detector.sample(started_ns)
        try:
            answer = Answer(self._run(feeds, None))
        finally:
            ended_ns = time.monotonic_ns()
            ns = ended_ns - started_ns
            if ns > LONG_RUN_NS:
                self._on_long_run([BatchItem(feeds, 1, deadline_ns, self._loop)], ns)
        most = self._rules.max_rows
        if most > 1 and (rows := len(next(iter(feeds.values())))) != 1:
            self._tally.batch(rows, min(rows, most), ns)
            answer.batch_rows = rows
        else:
            self._tally.single(ns)
        if ended_ns > deadline_ns:
            raise deadline_exceeded()
        return answer

    def submit(self, feeds: Feeds, deadline_ns: int) -> BatchItem:
        """Queue one request. Its result is its outputs, or DeadlineExceeded at `deadline_ns` (monotonic clock)."""
        item = BatchItem(feeds, 1, deadline_ns, self._loop)
        self.put(item)
        return item

    def put(self, item: BatchItem, *, alone: bool = False) -> None:
        """Queue an item that the caller has made. `alone`: nothing else of the version may run meanwhile."""
        item.rows, group = self._group_of(item.feeds)
        threaded = self._threaded
        if threaded is not None and (alone or self._all_threaded or (group is not None and self._is_large(item.feeds))):
            threaded.put(item, alone=alone)
        else:
            self._enqueue(item, ALONE if alone else group)

    def run_waiting(self) -> None:
        """Run what waits for the next iteration of the loop now."""
        if self._wake is not None and not self._queue_always:
            self._wake.cancel()
            self._flush()

    def _enqueue(self, item: BatchItem, group: Group) -> None:
        queue = self._groups.get(group)
        if queue is None:
            queue = self._groups[group] = deque()
        queue.append(item)
        self._tally.waiting(1)
        if self._queue_always:
            self._alarm.set(item.deadline_ns)
        if self._wake is None:
            self._wake = self._loop.call_later(self._delay_s, self._flush) if self._delay_s else self._schedule_flush()
        elif self._delay_s and sum(waiting.rows for waiting in queue) >= self._rules.max_rows:
            self._wake.cancel()
            self._wake = self._schedule_flush()

    def _schedule_flush(self) -> asyncio.Handle:
        return self._loop.call_soon(self._flush)

    def expire(self, now_ns: int) -> int:
        """Fail the requests whose deadline has passed; returns the next deadline."""
        for item in self._items():
            if item.deadline_ns <= now_ns:
                item.expire()
        self._purge_done()
        return min((item.deadline_ns for item in self._items() if not item.done()), default=NEVER_NS)

    def _items(self) -> list[BatchItem]:
        waiting = [item for queue in self._groups.values() for item in queue]
        return waiting + [item for batch in self._running for item in batch.items]

    def _purge_done(self) -> None:
        """Remove requests whose callers no longer wait: they would pile up behind a run that hangs."""
        for group, queue in list(self._groups.items()):
            left = deque(item for item in queue if not item.done())
            self._tally.waiting(len(left) - len(queue))
            if left:
                self._groups[group] = left
            else:
                del self._groups[group]

    def _is_large(self, feeds: Feeds) -> bool:
        return self._limits is not None and not self._limits.allows(feeds)

    def _flush(self) -> None:
        self._wake = None
        while self._groups and (self._threads is None or self._may_start()):
            if self._threaded is not None and (self._all_threaded or self._threaded._isolates()):
                self._hand_over(self._threaded)
                return
            batch = self._next_batch()
            if not batch.items:
                continue
            self._running.add(batch)
            self._watch.began(batch)
            if self._threads is None:
                if self._detector is not None:
                    self._detector.sample(time.monotonic_ns())
                batch.execute(self._run, self._join)
                if (ns := batch.ended_ns - batch.started_ns) > LONG_RUN_NS:
                    self._on_long_run([*batch.items], ns)
                self._finish(batch)
            elif not batch.start(self._threads, self._execute):
                self._running.discard(batch)
                self._watch.ended(batch)

    def _may_start(self) -> bool:
        alone = next(iter(self._groups)) is ALONE or any(batch.alone for batch in self._running)
        return not self._running or (not alone and len(self._running) < self._rules.concurrency)

    def _isolates(self) -> bool:
        """Whether a request runs or waits that nothing may run beside."""
        return ALONE in self._groups or (len(self._running) > 0 and any(batch.alone for batch in self._running))

    def _on_long_run(self, items: list[BatchItem], ns: int) -> None:
        """After a long run on the loop: send all requests to `threaded` until the cause is known."""
        if self._detector is not None and not self._all_threaded and not self._detector.host_was_busy:
            self._all_threaded = True
            self._set_queueing(True)
            self._detector.verify(items, ns, self._on_verified)

    def _on_verified(self, model_is_slow: bool) -> None:
        self._all_threaded = model_is_slow
        self._set_queueing(model_is_slow or self._delay_s > 0)

    def _hand_over(self, threaded: "Batcher") -> None:
        for group, queue in self._groups.items():
            self._tally.waiting(-len(queue))
            for item in queue:
                if not item.done():
                    threaded._enqueue(item, group)
        self._groups.clear()

    def _next_batch(self) -> Batch:
        """The next batch, from the group that was served longest ago, without requests whose callers no longer wait."""
        group = next(iter(self._groups))
        queue = self._groups.pop(group)
        batch = Batch([], 0, RunOptions() if self._threads is not None else None, self._trusted, alone=group is ALONE)
        now_ns = time.monotonic_ns()
        while queue and (
            not batch.items
            or (group is not UNBATCHED and group is not ALONE and batch.rows + queue[0].rows <= self._rules.max_rows)
        ):
            item = queue.popleft()
            self._tally.waiting(-1)
            if item.deadline_ns <= now_ns:
                item.expire()
            if not item.done():
                item.batch = batch
                batch.measure_cpu |= item.measure_cpu
                batch.items.append(item)
                batch.rows += item.rows
        if queue:
            self._groups[group] = queue
        return batch

    def _execute(self, batch: Batch) -> None:
        """Run a batch, in a thread of the version."""
        if batch.items:  # else it was rejected while it waited for a thread
            batch.thread = threading.get_native_id()
            batch.execute(self._run, self._join)
            self._loop.call_soon_threadsafe(self._on_finished, batch)

    def _on_finished(self, batch: Batch) -> None:
        self._finish(batch)
        if self._groups and self._wake is None:
            self._flush()

    def _finish(self, batch: Batch) -> None:
        self._running.discard(batch)
        self._watch.ended(batch)
        self._tally.batch(batch.rows, min(batch.rows, self._rules.max_rows), batch.ended_ns - batch.started_ns)
        for item, answer in zip(batch.items, batch.answers, strict=True):
            queued_ns = batch.started_ns - item.enqueued_ns
            self._tally.queued(queued_ns)
            if item.done():
                continue
            if batch.ended_ns > item.deadline_ns:
                item.set_exception(deadline_exceeded())
            elif isinstance(answer, Exception):
                item.set_exception(answer)
            else:
                result = Answer(answer)
                result.queued_ns, result.batch_rows = queued_ns, batch.rows
                item.set_result(result)
        batch.dissolve()
