"""Batches the responses of predictions that end together: all are answered, then all recorded, then all sent.

So each of the three is a loop of its own, whose code and data stay in the core's first-level cache (see
record_lines.py).
"""

import asyncio
import logging
from typing import Any, Final, Protocol

from gateway.backends.batch import Answer
from gateway.worker.call import Call
from gateway.worker.pipeline import Pipeline
from gateway.worker.reply import Reply

log: Final = logging.getLogger("gateway.worker.http")
BATCH_BYTES: Final = 1 << 20  # of encoded responses: more are not held at a time


class Connection(Protocol):
    """The connection that a prediction came from; `cycle` identifies the request."""

    def end(self, cycle: Any, call: Call, submitted: "asyncio.Future[Answer]") -> Reply | bytes:
        """The reply to a submitted call that is done, or the bytes of an error response. Never raises."""

    def send(self, cycle: Any, answer: Reply | bytes) -> None:
        """Write the response, if the client is still connected."""


class ResponseBatch:
    """Collects predictions until the event loop has reported all that ended in the current iteration."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._waiting: list[tuple[Connection, Any, Call, asyncio.Future[Answer]]] = []

    def put(self, connection: Connection, cycle: Any, call: Call, submitted: "asyncio.Future[Answer]") -> None:
        """Take a call that a stable version has finished; it is answered and released with all others that end now."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((connection, cycle, call, submitted))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        ended: list[tuple[Connection, Any, Call, Reply | bytes]] = []
        size = 0
        for connection, cycle, call, submitted in waiting:
            answer = connection.end(cycle, call, submitted)
            ended.append((connection, cycle, call, answer))
            if isinstance(answer, Reply):
                size += len(answer.body)
                if size > BATCH_BYTES:
                    self._send(ended)
                    ended, size = [], 0
        self._send(ended)

    def _send(self, ended: list[tuple[Connection, Any, Call, Reply | bytes]]) -> None:
        """Record and send these responses."""
        try:
            self._pipeline.recorder.answered([(call, reply) for _, _, call, reply in ended if isinstance(reply, Reply)])
        except Exception:
            log.exception("predictions cannot be recorded")
        for connection, cycle, _, reply in ended:
            try:
                connection.send(cycle, reply)
            except Exception:  # an unforeseen one must not leave the others unanswered
                log.exception("a prediction cannot be sent")
            finally:
                self._pipeline.release()
