"""The worker's side of a version that runs in a process of its own, shared by all workers.

Tensors pass through shared memory (`gateway.shm.arena`), frames over a Unix socket (`protocol`). If the process dies,
its calls fail at once with ProcessCrashed, or are repeated for a stable version, and a new connection is made as soon
as its successor listens.
"""

import asyncio
import itertools
import logging
import time
from typing import Any, Final

from gateway.backends import version_facts
from gateway.backends.batch import Answer, BatchItem, deadline_exceeded
from gateway.backends.deadline_alarm import NEVER_NS, DeadlineAlarm
from gateway.backends.process.frames import FrameError
from gateway.backends.process.item import ProcessItem
from gateway.backends.process.link import Link, connected
from gateway.backends.process.protocol import ANSWER, ANSWER_HEAD, CANCEL, ERROR, FREE, raised
from gateway.backends.process.tensors import TensorWriter
from gateway.backends.signature import Feeds
from gateway.backends.version_facts import VersionFacts
from gateway.errors import ModelFailed, ModelUnavailable, Overloaded, ProcessCrashed, ProcessLost
from gateway.shm.arena import Arena, ArenaError, Block
from gateway.shm.tally import Tally
from gateway.system.background_tasks import BACKOFF_S

MAX_REPEATS: Final = 4  # of one call: it may kill the process in a way that does not name it
LINGER_S: Final = 60.0  # a replaced stable version still answers for candidates' calls under way
log: Final = logging.getLogger("gateway.backends")


class ProcessBackend:
    """A `Backend` (gateway.backends.base). `patient`: for a stable version: calls wait while its process is restarted,
    and those that were in a crashed process are repeated one by one, each alone in the process, MAX_REPEATS times or
    until it ends again while it runs that call alone. A candidate's calls fail, and stable answers them.
    """

    small_body = -1
    facts: VersionFacts

    def __init__(self, where: str, tally: Tally, *, patient: bool) -> None:
        self.where = where
        self.loop = asyncio.get_running_loop()
        self._tally = tally
        self._patient = patient
        self._alarm = DeadlineAlarm(self.loop, self)
        self._numbers = itertools.count(1)
        self._link: Link | None = None
        self._arena: Arena  # set with the first connection
        self._writer: TensorWriter
        self._calls: dict[int, ProcessItem] = {}
        self._cancelled: dict[int, Block] = {}  # the process may still read their inputs
        self._waiting: list[ProcessItem] = []  # until the process is connected again
        self._alone = 0  # the number of the repeated call that runs alone; 0: none
        self._closed = False
        self._reconnecting: asyncio.Task[None] | None = None

    async def start(self, within_s: float | None) -> None:
        """Connect to the process; sets `facts`. `within_s`: the time limit; None: none, since control ends long loads.

        Raises ModelUnavailable.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._connect()
        except TimeoutError:
            why = f"its process has not loaded it within {within_s:g} s; it is served once it has (models.load_timeout)"
            raise ModelUnavailable(why) from None
        except (OSError, FrameError, ArenaError) as error:
            raise ModelUnavailable(f"its process cannot be reached: {error}; the gateway's log says why") from None

    def connect_later(self, facts: VersionFacts) -> None:
        """Connect, as soon as its process listens, to a version whose `facts` are known. Does not wait."""
        self.facts = facts
        self._reconnecting = self.loop.create_task(self._connect_again())

    @property
    def connected(self) -> bool:
        """Whether this worker is connected to the process."""
        return self._link is not None

    @property
    def spare(self) -> bool:
        """Whether this worker has fewer than twice as many calls in the process as run at once."""
        return self._link is not None and len(self._calls) < 2 * self.facts.rules.concurrency

    @property
    def idle(self) -> bool:
        """Whether no call waits for an answer."""
        return not self._calls and not self._waiting

    def must_queue(self, feeds: Feeds) -> bool:
        """Always True: nothing runs in the worker itself."""
        return True

    def run_now(self, feeds: Feeds, deadline_ns: int) -> Answer:
        """Never called, since `must_queue` is always True. Raises RuntimeError."""
        raise RuntimeError("nothing runs in the worker itself: a call must be queued, as must_queue says")

    def submit(self, feeds: Feeds, deadline_ns: int) -> BatchItem:
        """Send one request to the process."""
        item = ProcessItem(feeds, deadline_ns, self.loop, self.forget)
        self._alarm.set(deadline_ns)
        if self._link is None or self._waiting:
            self._hold(item)
        else:
            self._send(item, self._link, alone=False)
        return item

    def forget(self, item: ProcessItem) -> None:
        """Cancel the item's call in the process: its caller no longer waits."""
        if self._calls.pop(item.number, None) is not None:
            self._tally.waiting(-1)
            if item.block is not None and self._link is not None:
                self._cancelled[item.number] = item.block
                self._link.send(CANCEL, item.number)
            item.block = None

    def expire(self, now_ns: int) -> int:
        """Fail the calls whose deadline has passed; returns the next deadline."""
        items = [*self._calls.values(), *self._waiting]
        for item in items:
            if item.deadline_ns <= now_ns:
                item.expire()
        self._waiting = [item for item in self._waiting if not item.done()]
        return min((item.deadline_ns for item in items if not item.done()), default=NEVER_NS)

    def abandon(self) -> None:
        """Cancel every call."""
        for item in (*self._calls.values(), *self._waiting):
            item.cancel()
        self._waiting.clear()

    def close(self) -> None:
        """Close the connection: at once for a candidate, after LINGER_S for a stable version."""
        if self._patient and not self._closed:
            self.loop.call_later(LINGER_S, self._close)
        else:
            self._close()

    def _close(self) -> None:
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._link is not None:
            self._link.close()

    async def _connect(self) -> None:
        arena = Arena()
        link: Link | None = None
        try:
            link, found = await connected(self.where, arena, self._received, self._lost)
            self.facts = self._checked(found)
        except BaseException:
            arena.close()
            if link is not None:
                link.close()
            raise
        link.answers.names = [spec.name for spec in self.facts.signature.outputs]
        self._arena, self._writer = arena, TensorWriter(arena)
        self._link = link
        self._next_waiting()

    def _checked(self, found: dict[str, Any]) -> VersionFacts:
        if why := found.get("error"):
            raise ModelUnavailable(str(why))
        try:
            facts = version_facts.load(found)
        except (ValueError, KeyError, TypeError) as error:
            raise FrameError(f"it does not describe its version: {error!r}") from None
        if getattr(self, "facts", facts).sha256 != facts.sha256:
            raise ModelUnavailable("its files have changed since it was loaded: load the model again")
        return facts

    async def _connect_again(self) -> None:
        trouble, pauses = "", iter(BACKOFF_S)
        while not self._closed:
            try:
                await self._connect()
            except Exception as error:
                if isinstance(error, ModelUnavailable):  # the process will not run the version soon
                    self._refuse_waiting(error)
                if str(error) != trouble:
                    trouble = str(error)
                    log.warning("the process of a version (%s) is not there: %s", self.where, error)
                await asyncio.sleep(next(pauses, BACKOFF_S[-1]))
            else:
                return

    def _refuse_waiting(self, error: ModelUnavailable) -> None:
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if not item.done():
                item.set_exception(ProcessLost(f"this version cannot be served: {error}"))

    def _hold(self, item: ProcessItem) -> None:
        if self._patient and not self._closed:
            self._waiting.append(item)
        else:
            item.set_exception(ProcessLost("the process of this version is being started again; try again later"))

    def _send(self, item: ProcessItem, link: Link, *, alone: bool) -> None:
        written = self._writer.write(list(item.feeds.items()))
        if written is None:
            full = "there is no shared memory left for the inputs; try again later"
            item.set_exception(Overloaded(full) if self._patient else ProcessLost(full))  # not the candidate's fault
            return
        item.block, layout = written
        item.number = number = next(self._numbers)
        self._calls[number] = item
        self._tally.waiting(1)
        link.call(number, item.deadline_ns, item.block.offset, layout, alone=alone)

    def _received(self, kind: int, number: int, payload: bytes) -> None:
        """Process one frame. Raises one of link.VIOLATIONS if it violates the protocol."""
        link = self._link
        assert link is not None
        if number == self._alone:
            self._alone = 0
            self.loop.call_soon(self._next_waiting)
        item = self._calls.pop(number, None)
        block = self._cancelled.pop(number) if item is None else item.block
        if block is not None:
            self._arena.give_back(block)
        if item is None:
            if kind == ANSWER:
                link.was_read()
            return
        self._tally.waiting(-1)
        item.block = None
        try:
            if kind == ANSWER:
                self._answered(item, link, payload)
            elif kind == ERROR:
                item.set_exception(raised(payload))
            elif kind == FREE:  # its deadline has passed by the clock of the process
                item.set_exception(deadline_exceeded())
            else:
                raise ValueError(f"there are no frames of kind {kind}")
        except Exception:
            item.set_exception(ProcessCrashed("the process of this version sent an answer that cannot be read"))
            raise

    def _answered(self, item: ProcessItem, link: Link, payload: bytes) -> None:
        offset, queued_ns, run_ns, batch_rows, counts = ANSWER_HEAD.unpack_from(payload)
        answer = Answer([array for _, array in link.answers.read(offset, payload[ANSWER_HEAD.size :], copy=True)])
        link.was_read()
        tally = self._tally
        tally.queued(queued_ns)
        if counts:
            tally.batch(batch_rows, min(batch_rows, self.facts.rules.max_rows), run_ns)
        if time.monotonic_ns() > item.deadline_ns:
            item.expire()
            return
        answer.queued_ns, answer.batch_rows = queued_ns, batch_rows
        item.set_result(answer)

    def _lost(self, link: Link) -> None:
        """Handle the end of the connection: the process died, or one side violated the protocol."""
        if self._link is not link:  # it was never used
            return
        self._link = None
        self._alone = 0
        self._arena.close()
        self._cancelled.clear()
        calls, self._calls = list(self._calls.values()), {}
        self._tally.waiting(-len(calls))
        again = []
        for item in calls:
            item.block = None
            if item.done():
                continue
            alone = item.number == link.alone
            if (held := item.number in link.held) and not self._patient:
                self._hold(item)
                continue
            item.losses += not held
            if self._patient and not self._closed and not (alone and item.losses > 1) and item.losses <= MAX_REPEATS:
                again.append(item)  # it may be the cause, or another call of any worker
            elif self._patient:
                why = f"the process of this version ended with this request in it (times: {item.losses})"
                item.set_exception(ModelFailed(why))
            else:
                error = ProcessCrashed("the process of this version ended while the request was in it")
                error.alone = alone
                item.set_exception(error)
        self._waiting[:0] = again
        if not self._closed:
            self._reconnecting = self.loop.create_task(self._connect_again())

    def _next_waiting(self) -> None:
        """Send waiting calls. Those that were in a crashed process go first, one at a time: one may be the cause."""
        while self._link is not None and self._waiting and not self._alone:
            item = self._waiting.pop(0)
            if not item.done():
                self._send(item, self._link, alone=item.losses > 0)
                if item.losses and not item.done():
                    self._alone = item.number
