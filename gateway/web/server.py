"""uvicorn's server as both planes run it: drains without cutting clients off, pauses if it cannot accept."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from uvicorn.server import ServerState

from gateway.system.descriptors import MIN_FREE, DescriptorReserve, has_free_descriptors
from gateway.web.connection_limit import make_room
from gateway.web.draining import MAX_STEPS, STEP_S, Draining

LOG_INTERVAL_S: Final = 10.0  # between two complaints of the same need
log: Final = logging.getLogger("gateway.web")


class DrainingState(ServerState):
    """uvicorn's state. `draining`: each connection closes with its next response, new ones with their first."""

    draining = False


class Server(uvicorn.Server):
    """Serves on the sockets that are given to `serve`. The caller handles signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state: DrainingState = DrainingState()
        self._sockets: list[socket.socket] = []
        self._draining: Draining | None = None
        self._accept_paused = False  # accepts no one
        self._out_of_descriptors = False
        self._reserve = DescriptorReserve()
        self._reserve.fill()
        self._logged_s = -LOG_INTERVAL_S

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: uvicorn's method ends the process by the signal once it has drained."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, on copies that may be closed: a socket's queue lasts as long as any copy of it."""
        self._sockets = sockets or []
        await super().startup([each.dup() for each in self._sockets])

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's: called ten times a second; returns whether to close all connections."""
        if await super().on_tick(counter):
            return self.force_exit or self._is_drained()
        await self._use_reserve()
        return False

    def _is_drained(self) -> bool:
        drain_s = self.config.timeout_graceful_shutdown
        if self._draining is None:
            within = MAX_STEPS if drain_s is None else min(MAX_STEPS, int(drain_s / 2 / STEP_S))
            self._draining = Draining(self._sockets, self._pause_accepting, within)
        has_left = self._draining.step(self.server_state, asyncio.get_running_loop().time())
        if has_left and drain_s is not None:  # of the time that it may take as a whole
            self.config.timeout_graceful_shutdown = max(1, round(drain_s - self._draining.elapsed_s))
        return has_left

    def _pause_accepting(self) -> None:
        for server in self.servers:
            server.close()
        for each in self._sockets:
            each.close()

    async def _use_reserve(self) -> None:
        """Handle a shortage of file descriptors: close idle connections, and if that is not enough, accept no more."""
        if has_free_descriptors():
            if self._accept_paused and has_free_descriptors(MIN_FREE):
                await self._resume_accepting()
            if self._out_of_descriptors and self._reserve.fill():
                self._out_of_descriptors = False
                self._log("there are file descriptors again")
            return
        self._reserve.release()
        make_room(self.server_state.connections, None, 0)
        if not self._out_of_descriptors:
            self._out_of_descriptors = True
            self._log("there are no file descriptors to spare: connections are closed on which nothing is ordered")
        if not (self._accept_paused or has_free_descriptors()):
            self._accept_paused = True  # else the loop would try again and again to accept, without a pause
            for server in self.servers:
                server.close()

    async def _resume_accepting(self) -> None:
        with contextlib.suppress(OSError):  # they have been taken meanwhile
            await self.startup(self._sockets)
            self._accept_paused = False

    def _log(self, what: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._logged_s > LOG_INTERVAL_S or not self._out_of_descriptors:
            log.warning("%s", what)
            self._logged_s = now_s
