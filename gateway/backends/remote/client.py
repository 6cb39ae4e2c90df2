"""Runs the requests of a version on another server, over HTTP/1.1 connections that are kept, on the worker's loop.

A call goes to the address with the fewest in flight. If nothing of an answer had come when its connection broke, a
stable version's call is sent once more, to another address if there is one; a candidate's is not, since stable answers
it. An address that fails EJECT_AFTER times in a row is asked again once the model is ready there; a stable version's
calls go there all the same if there is no other. When a candidate is stopped, its calls under way end, and with them
their connections.
"""

import asyncio
import logging
import time
from functools import partial
from typing import Final, cast

from gateway.backends.batch import Answer
from gateway.backends.deadline_alarm import NEVER_NS, DeadlineAlarm
from gateway.backends.output_checks import Stopped, check
from gateway.backends.remote.addresses import Address, Addresses
from gateway.backends.remote.connection import MAX_BODY_BYTES, Broken, Connection, Response
from gateway.backends.remote.failures import AWAY, broken_error, error_of, unreachable, unreadable
from gateway.backends.remote.item import RemoteItem
from gateway.backends.remote.server import Server
from gateway.backends.remote.signature import RemoteFeeds
from gateway.backends.remote.trace_headers import trace_headers
from gateway.backends.remote.wire import Forms, body_of, form_of, read
from gateway.backends.signature import Feeds
from gateway.backends.version_facts import VersionFacts
from gateway.errors import Conflict, RequestError
from gateway.shm.tally import Tally
from gateway.system.background_tasks import BACKOFF_S

STOP_POLL_S: Final = 0.005  # while a candidate has calls in flight
log: Final = logging.getLogger("gateway.backends")


class RemoteBackend:
    """A `Backend` (gateway.backends.base). `stopped`: None for a stable version; of a candidate, whether it is."""

    small_body = -1

    def __init__(
        self, server: Server, facts: VersionFacts, binary: bool, tally: Tally, stopped: Stopped | None = None
    ) -> None:
        self.where = ""
        self.loop = asyncio.get_running_loop()
        self.server = server
        path = f"{server.path}/infer"
        self.addresses = Addresses([Address(url, server.head(url, path)) for url in server.settings.url])
        self.facts = facts
        self._forms = Forms.known(binary, (*facts.signature.inputs, *facts.signature.outputs))
        self._tally = tally
        self._stopped = stopped
        self._alarm = DeadlineAlarm(self.loop, self)
        self._timeout_ns = int(server.settings.timeout * 1e9) if server.settings.timeout else NEVER_NS
        self._items: set[RemoteItem] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop_timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether any address may be asked."""
        return not all(address.ejected for address in self.addresses.all)

    @property
    def spare(self) -> bool:
        """Whether a request would be sent at once."""
        return self.connected and len(self._items) < len(self.addresses.all) * self.server.settings.connections

    @property
    def idle(self) -> bool:
        """Whether no call waits for an answer."""
        return not self._items

    async def is_ready(self) -> bool:
        """Whether the server says at any address that the model is ready."""
        return any(await asyncio.gather(*(self.server.is_ready(one.url) for one in self.addresses.all)))

    def must_queue(self, feeds: Feeds) -> bool:
        """Always True."""
        return True

    def run_now(self, feeds: Feeds, deadline_ns: int) -> Answer:
        """Never called, since nothing runs in the worker itself. Raises RuntimeError."""
        raise RuntimeError("a call must be queued, as must_queue says")

    def submit(self, feeds: Feeds, deadline_ns: int) -> RemoteItem:
        """Send one request to the server."""
        call = cast(RemoteFeeds, feeds)
        deadline_ns = min(deadline_ns, time.monotonic_ns() + self._timeout_ns)
        item = RemoteItem(call, body_of(call, self._forms), deadline_ns, self.loop, self._forget)
        self._items.add(item)
        self._tally.waiting(1)
        self._alarm.set(deadline_ns)
        if self._stopped is not None and self._stop_timer is None:
            self._watch_stop()
        if not item.done():
            self._dispatch(item, self.addresses.choose(patient=self._stopped is None))
        return item

    def expire(self, now_ns: int) -> int:
        """Fail the calls whose deadline has passed; returns the next deadline."""
        for item in [item for item in self._items if item.deadline_ns <= now_ns]:
            if item.address is not None and item.sent_ns and item.deadline_ns - item.enqueued_ns >= self._timeout_ns:
                self._count_failure(item.address)  # by `timeout`; a client may set a deadline that no server can meet
            item.expire()
        return min((item.deadline_ns for item in self._items), default=NEVER_NS)

    def abandon(self) -> None:
        """Cancel every call."""
        for item in list(self._items):
            item.cancel()

    def close(self) -> None:
        """Close the connections. Calls that stable still answers for candidates each open their own from then on."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for address in self.addresses.all:
            for connection in list(address.idle):
                connection.abort()

    def _watch_stop(self) -> None:
        """Look, while calls are in flight, whether the candidate has been stopped; if so, end them."""
        self._stop_timer = None
        assert self._stopped is not None
        if self._items and self._stopped():
            for item in list(self._items):
                stop = Conflict("the version is stopped; resume it, or ask for another version")
                self._end(item, stop)
        if self._items:
            self._stop_timer = self.loop.call_later(STOP_POLL_S, self._watch_stop)

    def _forget(self, item: RemoteItem) -> None:
        """Drop an item whose caller no longer waits, and with it the connection that its answer would come on."""
        if item not in self._items:
            return
        self._items.discard(item)
        self._tally.waiting(-1)
        self._detach(item)

    def _detach(self, item: RemoteItem) -> None:
        address, connection = item.address, item.connection
        item.address = item.connection = None
        if address is None:
            return
        address.in_flight -= 1
        if connection is not None:
            connection.abort()
        elif item in address.waiting:
            address.waiting.remove(item)

    def _end(self, item: RemoteItem, error: Exception) -> None:
        self._forget(item)
        if not item.done():
            item.set_exception(error)

    def _dispatch(self, item: RemoteItem, address: Address | None) -> None:
        if address is None:
            self._end(item, unreachable(f"no address of {self.server} answers"))
            return
        item.address = address
        address.in_flight += 1
        while address.idle:
            connection = address.idle.pop()
            if connection.open:
                self._send(item, address, connection)
                return
        address.waiting.append(item)
        self._open_more(address)

    def _open_more(self, address: Address) -> None:
        """Open a connection for each call that waits for one."""
        while address.opening < len(address.waiting) and address.connections < self.server.settings.connections:
            address.opening += 1
            address.connections += 1
            self._start(self._open(address))

    def _send(self, item: RemoteItem, address: Address, connection: Connection) -> None:
        item.connection = connection
        item.sent_ns = time.monotonic_ns()
        source = item.call.request.source
        origin = trace_headers(source.origin) if source is not None and source.origin is not None else b""
        connection.send(
            (address.head + origin + form_of(item.body), item.body.data), partial(self._done, item, address)
        )

    async def _open(self, address: Address) -> None:
        try:
            connection = await self.server.connect(address.url, partial(self._on_closed, address), MAX_BODY_BYTES)
        except Exception as error:  # OSError, TLS, time-out
            address.opening -= 1
            address.connections -= 1
            self._not_connected(address, f"{address.url}: {error or 'no connection in time'}")
        except BaseException:
            address.opening -= 1
            address.connections -= 1
            raise
        else:
            address.opening -= 1
            self._free(address, connection)

    def _not_connected(self, address: Address, why: str) -> None:
        self._count_failure(address)
        waiting = [address.waiting.popleft()] if address.waiting else []
        if not address.connections:
            waiting += address.waiting
            address.waiting.clear()
        for item in waiting:
            self._broken(item, address, unreachable(f"the model's server cannot be reached: {why}"))

    def _on_closed(self, address: Address, connection: Connection) -> None:
        address.connections -= 1
        if connection in address.idle:
            address.idle.remove(connection)
        self._open_more(address)

    def _free(self, address: Address, connection: Connection) -> None:
        if not connection.open:
            return
        if address.waiting:
            self._send(address.waiting.popleft(), address, connection)
        elif self._closed:
            connection.abort()
        else:
            address.idle.append(connection)

    def _done(self, item: RemoteItem, address: Address, connection: Connection, found: Response | Broken) -> None:
        item.connection = None
        if isinstance(found, Broken):
            if not found.stale:
                self._count_failure(address)
            self._broken(item, address, broken_error(found), retry=not found.received, same=found.stale)
            return
        if found.status in AWAY:
            self._count_failure(address)
        else:  # also with an error, which the request may be the cause of
            address.succeeded()
        try:
            answer = self._read(item, address, found)
        except Exception as error:
            self._end(item, error if isinstance(error, RequestError) else unreadable(error, address.url))
            return
        finally:
            self._free(address, connection)
        self._forget(item)
        if not item.done():
            answer.queued_ns = item.sent_ns - item.enqueued_ns
            self._tally.queued(answer.queued_ns)
            self._tally.batch(1, 1, time.monotonic_ns() - item.sent_ns)
            item.set_result(answer)

    def _read(self, item: RemoteItem, address: Address, response: Response) -> Answer:
        if response.status != 200:
            raise error_of(response)
        outputs = self.facts.signature.outputs
        answer = read(response, item.call, self.server.model, address.url, outputs, item.body.asis)
        if self._stopped is not None:
            check(outputs, answer, None)
        return answer

    def _broken(
        self, item: RemoteItem, address: Address, error: RequestError, *, retry: bool = True, same: bool = False
    ) -> None:
        """Send a stable version's call once more, if nothing of an answer had come; else it fails with `error`."""
        if self._stopped is None and retry and not item.retried:
            other = self.addresses.choose((address,))
            if other is None:
                other = address if same else self.addresses.choose((address,), patient=True)
            if same:  # the others that are idle are as old
                idle, address.idle = address.idle, []
                for connection in idle:
                    connection.abort()
            if other is not None:
                item.retried = True
                self._detach(item)
                self._dispatch(item, other)
                return
        self._end(item, error)

    def _count_failure(self, address: Address) -> None:
        if not self._closed and address.failed():
            log.warning("%s fails: it is asked again once the model is ready there", address.url)
            self._start(self._probe(address))

    async def _probe(self, address: Address) -> None:
        """Ask an ejected address, with pauses, until the model is ready there."""
        failures = 0
        while address.ejected and not self._closed:
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1
            if await self.server.is_ready(address.url):
                address.succeeded()
                log.warning("%s answers again", address.url)

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
