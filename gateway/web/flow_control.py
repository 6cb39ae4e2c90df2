"""Stops reading while received data still waits to be processed, which would otherwise pile up without limit."""

import asyncio
from collections.abc import Sized
from typing import Final, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

PARSE_BYTES: Final = 16384  # bytes of a packet that are parsed at once: they may hold requests that have to wait
MAX_PARSE_S: Final = 0.004  # for which one connection's packet may occupy the event loop


class Backlog(Protocol):
    """A connection: the requests that wait for the one being answered, and the data that is not parsed yet."""

    @property
    def pipeline(self) -> Sized: ...

    @property
    def unparsed(self) -> bytes: ...


class BacklogFlowControl(FlowControl):
    """Resumes reading only once no requests or data wait; uvicorn's class resumes with the first response."""

    def __init__(self, transport: asyncio.Transport, backlog: Backlog) -> None:
        super().__init__(transport)
        self._backlog = backlog

    def resume_reading(self) -> None:
        if not self._backlog.pipeline and not self._backlog.unparsed:
            super().resume_reading()
