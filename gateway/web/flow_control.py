"""Stops reading while received data is still waiting to be processed, which would otherwise pile up without limit."""

import asyncio
from collections.abc import Sized
from typing import Final, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

PIECE: Final = 16384  # bytes of a packet that are parsed at once: what is in them may be requests that have to wait
TURN_S: Final = 0.004  # for which one connection's packet may keep the event loop


class Backlog(Protocol):
    """A connection: the requests behind the one that is being answered, and what is not parsed yet."""

    @property
    def pipeline(self) -> Sized: ...

    @property
    def rest(self) -> bytes: ...


class TurnFlow(FlowControl):
    """uvicorn's, which begins to read again with the first answer."""

    def __init__(self, transport: asyncio.Transport, backlog: Backlog) -> None:
        super().__init__(transport)
        self._backlog = backlog

    def resume_reading(self) -> None:
        if not self._backlog.pipeline and not self._backlog.rest:
            super().resume_reading()
