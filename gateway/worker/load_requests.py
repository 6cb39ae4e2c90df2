"""Clients' requests to load or unload a model, which a worker passes on to control: it does so in all workers."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from gateway.backends.repository import Repository
from gateway.errors import InvalidRequest, NotFound
from gateway.messages import LoadReply, LoadRequest
from gateway.worker.pipeline import Pipeline

NO_CONTROL: Final = "the control process is gone"


class LoadRequests:
    """Those under way. `send` passes one to control and says whether control may hear it."""

    def __init__(self, repository: Repository, pipeline: Pipeline, send: Callable[[LoadRequest], bool]) -> None:
        self._repository = repository
        self._pipeline = pipeline
        self._send = send
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._next = itertools.count(1)

    async def load(self, name: str, *, by: str, origin: str) -> None:
        """Have all workers load the model; raises NotFound or InvalidRequest. `by`, `origin`: as in LoadRequest."""
        if name not in self._repository.names():
            raise NotFound(f"the repository has no model '{name}'")
        await self._ask(name, True, by, origin)

    async def unload(self, name: str, *, by: str, origin: str) -> None:
        """Have all workers unload the model; raises NotFound or InvalidRequest. `by`, `origin`: as in LoadRequest."""
        self._pipeline.served(name)
        await self._ask(name, False, by, origin)

    def answer(self, reply: LoadReply) -> None:
        """All workers have done it, or it cannot be done."""
        _settle(self._waiting.pop(reply.number), reply.error)

    def refuse_all(self) -> None:
        """No one will answer any more."""
        for answer in self._waiting.values():
            _settle(answer, NO_CONTROL)
        self._waiting.clear()

    async def _ask(self, name: str, load: bool, by: str, origin: str) -> None:
        number = next(self._next)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        if not self._send(LoadRequest(number, name, load, by, origin)):
            del self._waiting[number]
            raise InvalidRequest(NO_CONTROL)
        if error := await answer:
            raise InvalidRequest(error)


def _settle(answer: "asyncio.Future[str]", error: str) -> None:
    if not answer.done():  # whoever asked may have gone
        answer.set_result(error)
