"""Versions that other servers run: whether the model is ready at each address, for the metrics; and those whose server
could not be asked when they were to be served, until it answers.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.backends.remote.server import Server
from gateway.backends.repository import Repository
from gateway.control.metrics.remote_metrics import RemoteStatus
from gateway.errors import GatewayError, ModelUnavailable, ServerUnreachable
from gateway.settings.routing import RoutingSettings
from gateway.version_key import VersionKey

PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0)  # the last one is repeated
CHECK_S: Final = 5.0  # between two checks of all addresses
AGAIN_S: Final = 60.0  # before another load of a version that cannot be loaded although its server answers
_Stamp = tuple[int, int, int]  # of remote.yaml: the file, its size and its time


@dataclass(slots=True)
class _Told:
    """A version whose server has answered. `at_s`: when, or until when it was loaded; `stamp`: of its remote.yaml."""

    at_s: float
    stamp: _Stamp


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
        self._answered: dict[VersionKey, _Stamp] = {}
        self._told: dict[VersionKey, _Told] = {}

    def take_late(self, unavailable: Collection[VersionKey], loading: Collection[VersionKey] = ()) -> set[VersionKey]:
        """Those of the versions `unavailable` to some worker whose server answers by now. `loading`: those
        whose load is pending. One that stays unavailable although its server answers is told again after AGAIN_S, or
        once the server was away or remote.yaml has changed. Call often.
        """
        busy, wanted = set(loading), set(unavailable)
        late = (self._answered.keys() & wanted) - busy
        self._told |= {key: _Told(0.0, self._answered[key]) for key in late}
        self._answered.clear()
        for key in (busy | late) & self._told.keys():
            self._told[key].at_s = self._clock()
        for key in (self._asked.keys() | self._told.keys()) - wanted - busy:
            self._asked.pop(key, None)
            self._told.pop(key, None)
        for key in wanted - self._asking.keys() - late - busy:
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
            server, stamp = await asyncio.to_thread(self._server, key)  # the disk may not answer
            if server is None:
                return
            try:
                await server.metadata()
            except ServerUnreachable:
                self._told.pop(key, None)
                return
            told = self._told.get(key)
            if told is None or told.stamp != stamp or self._clock() - told.at_s >= AGAIN_S:
                self._answered[key] = stamp

    def _server(self, key: VersionKey) -> tuple[Server | None, _Stamp]:
        """The server that runs the version; None if it runs here. For a thread. Raises GatewayError."""
        if not self._repository.is_remote(*key):
            return None, (0, 0, 0)
        file = self._repository.remote_file(*key)
        try:
            found = file.stat()
        except OSError as error:
            raise ModelUnavailable(f"{file}: {error}") from None
        return Server(key[0], file), (found.st_ino, found.st_size, found.st_mtime_ns)
