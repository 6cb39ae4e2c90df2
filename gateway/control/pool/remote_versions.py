"""Versions whose server could not be asked when they were to be served: it is asked again until it answers."""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from gateway.backends.remote.server import Server
from gateway.backends.repository import Repository
from gateway.errors import GatewayError
from gateway.version_key import VersionKey

PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0)  # the last one is repeated
log: Final = logging.getLogger("gateway.control")


class RemoteVersions:
    """Runs on control's loop."""

    def __init__(self, repository: Repository) -> None:
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
            if key not in self._asking and key not in late and self._repository.is_remote(*key):
                task = self._asking[key] = asyncio.get_running_loop().create_task(self._ask(key))
                task.add_done_callback(lambda _, key=key: self._asking.pop(key))  # type: ignore[misc]
        return late

    def close(self) -> None:
        """Ask no more."""
        for task in self._asking.values():
            task.cancel()

    async def _ask(self, key: VersionKey) -> None:
        asked = self._asked.get(key, 0)
        self._asked[key] = asked + 1
        await asyncio.sleep(PAUSES_S[min(asked, len(PAUSES_S) - 1)])
        try:
            server = await asyncio.to_thread(lambda: Server(key[0], self._repository.remote_file(*key)))
            await server.metadata()
        except GatewayError:
            return
        self._answered.add(key)
