"""uvicorn's server as both planes run it: drains without cutting clients off, pauses if it cannot accept."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from uvicorn.server import ServerState

from gateway.system.descriptors import SPARE, Reserve, may_open
from gateway.web.connection_limit import make_room
from gateway.web.draining import LEAVES_WITHIN, STEP_S, Leaving

SILENT_S: Final = 10.0  # between two complaints of the same need
log: Final = logging.getLogger("gateway.web")


class LeavingState(ServerState):
    """`leaving`: each connection goes with its next answer, new ones with their first."""

    leaving = False


class Server(uvicorn.Server):
    """On sockets that are given to `serve`. Signals are the caller's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state: LeavingState = LeavingState()
        self._sockets: list[socket.socket] = []
        self._leaving: Leaving | None = None
        self._resting = False  # accepts no one
        self._in_need = False
        self._reserve = Reserve()
        self._reserve.fill()
        self._said_s = -SILENT_S

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's would end the process by the signal once it had drained."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's, on copies, which may be closed: the queue of a socket lasts as long as one of its copies."""
        self._sockets = sockets or []
        await super().startup([each.dup() for each in self._sockets])

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's, ten times a second: whether to close what is open."""
        if await super().on_tick(counter):
            return self.force_exit or self._has_left()
        await self._make_do()
        return False

    def _has_left(self) -> bool:
        drain_s = self.config.timeout_graceful_shutdown
        if self._leaving is None:
            within = LEAVES_WITHIN if drain_s is None else min(LEAVES_WITHIN, int(drain_s / 2 / STEP_S))
            self._leaving = Leaving(self._sockets, self._listen_no_more, within)
        has_left = self._leaving.step(self.server_state, asyncio.get_running_loop().time())
        if has_left and drain_s is not None:  # of the time that it may take as a whole
            self.config.timeout_graceful_shutdown = max(1, round(drain_s - self._leaving.taken_s))
        return has_left

    def _listen_no_more(self) -> None:
        for server in self.servers:
            server.close()
        for each in self._sockets:
            each.close()

    async def _make_do(self) -> None:
        """With the descriptors that there are: in need of one, idle connections go, and then no more are accepted."""
        if may_open():
            if self._resting and may_open(SPARE):
                await self._accept_again()
            if self._in_need and self._reserve.fill():
                self._in_need = False
                self._say("file descriptors are available again")
            return
        self._reserve.release()
        make_room(self.server_state.connections, None, 0)
        if not self._in_need:
            self._in_need = True
            self._say("file descriptors have run out; idle connections are closed (raise the limit: ulimit -n)")
        if not (self._resting or may_open()):
            self._resting = True  # else the loop would try again and again to accept, without a pause
            for server in self.servers:
                server.close()

    async def _accept_again(self) -> None:
        with contextlib.suppress(OSError):  # they have been taken meanwhile
            await self.startup(self._sockets)
            self._resting = False

    def _say(self, what: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._said_s > SILENT_S or not self._in_need:
            log.warning("%s", what)
            self._said_s = now_s
