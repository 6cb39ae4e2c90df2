"""Versions that other servers run: whether the model is ready at each address, for the metrics; and those whose server
could not be asked when they were to be served, until it answers.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from gateway.backends.remote.server import Server
from gateway.backends.repository import Repository
from gateway.control.metrics.remote_metrics import RemoteStatus
from gateway.errors import GatewayError
from gateway.settings.routing import RoutingSettings
from gateway.version_key import VersionKey

PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0)  # the last one is repeated
CHECK_S: Final = 5.0  # between two checks of all addresses


class RemoteVersions:
    """Runs on control's loop. `status`: of each address of the versions in force, replaced as a whole. `clock` in
    seconds.
    """

    def __init__(self, repository: Repository, clock: Callable[[], float] = time.monotonic) -> None:
        self.status: Sequence[RemoteStatus] = ()
        self._clock = clock
        self._check_s = 0.0
        self._checking: asyncio.Task[None] | None = None
        self._repository = repository
        self._asking: dict[VersionKey, asyncio.Task[None]] = {}
        self._asked: dict[VersionKey, int] = {}  # how often
        self._answered: set[VersionKey] = set()

    def take_late(self, unavailable: Collection[VersionKey]) -> set[VersionKey]:
        """Those of the versions `unavailable` to some worker whose server answers by now; each is told once, until it
        has been asked again. Call often.
        """
        late, self._answered = self._answered & set(unavailable), set()
        for key in self._asked.keys() - set(unavailable):
            del self._asked[key]
        for key in unavailable:
            if key not in self._asking and key not in late:
                task = self._asking[key] = asyncio.get_running_loop().create_task(self._ask(key))
                task.add_done_callback(lambda _, key=key: self._asking.pop(key))  # type: ignore[misc]
        return late

    def check(self, routing: RoutingSettings) -> None:
        """Ask every address of the versions in `routing`, unless that was done in the last CHECK_S. Call often."""
        if self._clock() < self._check_s or (self._checking is not None and not self._checking.done()):
            return
        self._check_s = self._clock() + CHECK_S
        self._checking = asyncio.get_running_loop().create_task(self._check(routing))

    def close(self) -> None:
        """Ask no more."""
        for task in (*self._asking.values(), self._checking):
            if task is not None:
                task.cancel()

    async def _check(self, routing: RoutingSettings) -> None:
        servers = await asyncio.to_thread(self._servers, routing)
        asked = [(key, server, url) for key, server in servers.items() for url in server.settings.url]
        ready = await asyncio.gather(*(server.is_ready(url) for _, server, url in asked))
        self.status = [RemoteStatus(*key, url, up) for (key, _, url), up in zip(asked, ready, strict=True)]

    def _servers(self, routing: RoutingSettings) -> dict[VersionKey, Server]:
        servers = {}
        for name, release in routing.models.items():
            for number in {release.stable, release.candidate} - {None}:
                if number is not None and self._repository.is_remote(name, number):
                    with contextlib.suppress(GatewayError):
                        servers[name, number] = Server(name, self._repository.remote_file(name, number))
        return servers

    async def _ask(self, key: VersionKey) -> None:
        asked = self._asked.get(key, 0)
        self._asked[key] = asked + 1
        await asyncio.sleep(PAUSES_S[min(asked, len(PAUSES_S) - 1)])
        with contextlib.suppress(GatewayError):
            server = await asyncio.to_thread(self._server, key)  # the disk may not answer
            if server is not None:
                await server.metadata()
                self._answered.add(key)

    def _server(self, key: VersionKey) -> Server | None:
        """The server that runs the version; None if it runs here. For a thread. Raises GatewayError."""
        return Server(key[0], self._repository.remote_file(*key)) if self._repository.is_remote(*key) else None
