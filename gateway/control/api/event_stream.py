"""GET /api/events: server-sent events, so that a console sees changes at once without polling.

    snapshot   {time_ns, sequence, releases, fleet, config, decisions}: the full state, at the start and when models
               come or go
    live       {time_ns, sequence, releases, fleet}: twice a second, the releases that changed since; a keep-alive if
               none did; and the fleet, null without one
    decision   one decision, within 50 ms
    config     the configuration document, when it has changed
    end        {reason}: the gateway is shutting down, the client reads too slowly, or its key is no longer valid

One loop polls for all clients, and runs only while there are any. Source: WHATWG HTML, "Server-sent events".
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.auth.keyring import Identity, Keyring
from gateway.control.api.documents import ConfigDocument
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.fleet_documents import FleetDocument
from gateway.control.api.fleet_rendering import fleet_document
from gateway.control.api.openapi import Operation
from gateway.control.api.release_pages import NO_RELEASES, ReleasePages, array_of, in_page_thread
from gateway.control.api.rendering import config_document, decision_document
from gateway.control.api.shared_results import SharedResult
from gateway.control.control_plane import ControlPlane
from gateway.control.release.decisions import ReleaseDecision
from gateway.errors import Overloaded
from gateway.system.background_tasks import retry_forever
from gateway.web.authentication import identity_in

POLL_S: Final = 0.05
RELEASES_INTERVAL_S: Final = 0.5
MAX_CLIENTS: Final = 32
MAX_QUEUED: Final = 120  # messages that may be queued for a client: usually half a minute's
SNAPSHOT_DECISIONS: Final = 50  # decisions in a snapshot
SHUTTING_DOWN: Final = "the gateway is shutting down"
TOO_SLOW: Final = "this client reads too slowly; reconnect"
KEY_ENDED: Final = "the API key has been revoked or has expired"


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """The state that clients have received. `releases_read_s`: when the releases and the fleet were read; `sequence`:
    of the last decision before that, so that clients do not take these releases for newer than a command's own answer.
    """

    releases: ReleasePages
    config: ConfigDocument
    decisions: list[ReleaseDecision]
    releases_read_s: float
    sequence: int = 0
    fleet: FleetDocument | None = None

    @property
    def last_sequence(self) -> int:
        """The sequence of the last decision, 0 if there is none."""
        return self.decisions[-1].sequence if self.decisions else 0


def changes(before: ConsoleState, now: ConsoleState) -> Iterator[bytes]:
    """The messages for the decisions and the configuration that changed from `before` to `now`."""
    if now.decisions is not before.decisions:
        new = (one for one in now.decisions if one.sequence > before.last_sequence)
        yield from (message("decision", decision_document(one)) for one in new)
    if now.config != before.config:
        yield message("config", now.config)


def release_changes(before: ConsoleState, now: ConsoleState, time_ns: int) -> Iterator[bytes]:
    """The message for the releases that changed, or a snapshot if the set of releases changed."""
    was, documents = before.releases.documents, now.releases.documents
    if documents.keys() != was.keys():
        yield snapshot(now, time_ns)
    else:
        changed = [release for name, release in documents.items() if release != was[name]]
        figures = orjson.Fragment(array_of(changed))
        state = {"time_ns": time_ns, "sequence": now.sequence, "releases": figures, "fleet": now.fleet}
        yield message("live", state)


def snapshot(seen: ConsoleState, time_ns: int) -> bytes:
    """The message with everything that the console shows."""
    decisions = [decision_document(decision) for decision in reversed(seen.decisions[-SNAPSHOT_DECISIONS:])]
    releases = orjson.Fragment(seen.releases.text)
    everything = {"time_ns": time_ns, "sequence": seen.sequence, "releases": releases, "fleet": seen.fleet}
    return message("snapshot", {**everything, "config": seen.config, "decisions": decisions})


def message(name: str, data: Any) -> bytes:
    """One event in wire format; JSON contains no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))


class Client:
    """The message queue of one client. It ends with an `end` message."""

    def __init__(self, identity: Identity | None = None) -> None:
        self.identity = identity
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_QUEUED)

    def send(self, *messages: bytes) -> bool:
        """Queue messages. Returns False if the client is too far behind; the stream is then ended with that reason
        instead.
        """
        if self._queue.qsize() + len(messages) >= MAX_QUEUED:
            self.end(TOO_SLOW)
            return False
        for one in messages:
            self._queue.put_nowait(one)
        return True

    def end(self, reason: str) -> None:
        """Queue the `end` message, after which the stream closes; if the queue is full, drop the oldest messages."""
        while self._queue.qsize() > MAX_QUEUED - 2:
            self._queue.get_nowait()
        self._queue.put_nowait(message("end", {"reason": reason}))
        self._queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[bytes]:
        """The queued messages, until the stream ends; those that wait together are sent together, since each send
        gives way to commands.
        """
        while True:
            queued = [await self._queue.get()]
            while not self._queue.empty():
                queued.append(self._queue.get_nowait())
            yield b"".join(one for one in queued if one is not None)
            if None in queued:
                return


class EventStream:
    """The endpoint and its polling loop. `ending`: set when the gateway begins to shut down."""

    def __init__(
        self,
        control: ControlPlane,
        released: SharedResult[ReleasePages],
        ending: asyncio.Event,
        keyring: Keyring | None,
    ) -> None:
        self._control = control
        self._release_pages = released
        self._ending = ending
        self._keyring = keyring
        self._clients: set[Client] = set()
        self._loop: asyncio.Task[None] | None = None

    def endpoints(self) -> list[Endpoint]:
        operation = Operation(
            "GET", "/api/events", "events", "Server-sent events.", errors=(503,), media="text/event-stream"
        )
        return [Endpoint(operation, self.events)]

    async def events(self, request: Request) -> Response:
        if len(self._clients) >= MAX_CLIENTS:
            raise Overloaded(
                f"{MAX_CLIENTS} clients read the event stream, which is the limit; poll GET /api/releases instead"
            )
        return StreamingResponse(
            self._stream(identity_in(request.scope)),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _stream(self, identity: Identity | None) -> AsyncIterator[bytes]:
        client, seen = Client(identity), self._read_state()
        self._clients.add(client)  # from now on decisions are queued, to follow the snapshot
        try:
            seen = self._with_releases(seen, await self._release_pages.get(), seen.last_sequence)
            if self._loop is None or self._loop.done():
                polling = retry_forever("telling clients of events", lambda: self._poll(seen))
                self._loop = asyncio.get_running_loop().create_task(polling)
            yield await in_page_thread(snapshot, seen, time.time_ns())
            async for one in client.messages():
                yield one
        finally:
            self._clients.discard(client)

    async def _poll(self, seen: ConsoleState) -> None:
        reading: asyncio.Task[ReleasePages] | None = None
        begun = 0  # the last decision's sequence when the current read of the releases began
        due = False  # releases are to be read early, since a decision or configuration came
        while self._clients and not self._ending.is_set():
            self._drop_expired_keys()
            state = self._read_state()
            now = replace(seen, config=state.config, decisions=state.decisions)
            await self._send(changes(seen, now))
            due |= now.decisions is not seen.decisions or now.config != seen.config
            if reading is None and (due or time.monotonic() - seen.releases_read_s >= RELEASES_INTERVAL_S):
                due, begun = False, now.last_sequence
                reading = asyncio.get_running_loop().create_task(self._release_pages.get())
            if reading is not None and reading.done():
                before = now
                now = self._with_releases(now, reading.result(), begun)
                await self._send(
                    await in_page_thread(lambda b, n: [*release_changes(b, n, time.time_ns())], before, now)
                )
                reading = None
            seen = now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):  # wait_for of 3.11 may swallow a cancellation
                    await self._ending.wait()
        for client in self._clients:
            client.end(SHUTTING_DOWN)

    def _read_state(self) -> ConsoleState:
        """The parts of the state that are cheap to read: not the releases, and not the fleet."""
        return ConsoleState(
            NO_RELEASES, config_document(self._control), self._control.decision_log.decisions, time.monotonic()
        )

    def _with_releases(self, state: ConsoleState, releases: ReleasePages, sequence: int) -> ConsoleState:
        fleet = fleet_document(self._control)
        return replace(state, releases=releases, releases_read_s=time.monotonic(), sequence=sequence, fleet=fleet)

    async def _send(self, messages: Iterable[bytes]) -> None:
        """Queue the messages for all clients, one after the other: 100 that write in one iteration of the loop make a
        stop wait 5 ms. A client that comes meanwhile gets them too.
        """
        queued: set[Client] = set()
        if not (once := [*messages]):
            return
        while waiting := self._clients - queued:
            for client in waiting:
                if not client.send(*once):
                    self._clients.discard(client)
                await self._control.command_priority.yield_to_commands()
            queued |= waiting

    def _drop_expired_keys(self) -> None:
        for client in list(self._clients):
            if self._keyring and client.identity and not self._keyring.is_valid(client.identity):
                self._clients.discard(client)
                client.end(KEY_ENDED)
