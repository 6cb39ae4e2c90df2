"""Formats the log on stderr, for people or for programs. A message cannot forge another entry, whatever it contains.

A message may quote what a client has sent. The JSON form escapes everything but plain ASCII. The human form escapes
control characters and indents continuation lines: only the first line of an entry begins with its time.
"""

import contextlib
import copy
import json
import logging
import logging.handlers
import os
import queue
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal

from gateway.settings.gateway import LogForm
from gateway.system.bounded_call import run_bounded
from gateway.system.scheduling import set_realtime_helper

INDENT: Final = "    "
# Characters that a terminal or a line reader interprets: C0 except the line feed, DEL, C1, and Unicode's line breaks
# and directional controls, which can make a line look like another (CVE-2021-42574).
_CONTROL_CHARACTERS: Final = [
    *range(10),
    *range(11, 32),
    *range(127, 160),
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
]
_ESCAPES: Final = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in [*_CONTROL_CHARACTERS, *range(0x2066, 0x206A)]
}
_EXTRA: Final = ("prediction_id", "trace_id", "request_id")  # keys of logging's `extra`
MAX_QUEUED: Final = 10_000
CLOSE_TIMEOUT_S: Final = 2.0
BATCH_DELAY_S: Final = 0.01
Role = Literal["control", "worker"]


def configure(form: LogForm, role: Role, worker: int | None = None) -> None:
    """Configure all loggers of this process, and Python's warnings, to write to stderr. `worker`: its index."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(role, worker) if form == "json" else HumanFormatter(role, worker))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    warnings.filters = [one for one in warnings.filters if one[0] != "error"]  # of PYTHONWARNINGS: to be logged only
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for each call of the fleet's store


@contextlib.contextmanager
def log_in_thread() -> Iterator[None]:
    """Inside this context a separate thread writes the log, so logging never blocks on stderr's reader or disk.

    At most MAX_QUEUED entries wait, further ones are dropped. At exit it waits at most CLOSE_TIMEOUT_S for the rest.
    """
    root = logging.getLogger()
    handlers, waiting = root.handlers[:], queue.Queue[logging.LogRecord](MAX_QUEUED)
    listener = _Listener(waiting, *handlers)
    root.handlers[:] = [_BoundedQueueHandler(waiting)]
    listener.start()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        run_bounded(listener.stop, CLOSE_TIMEOUT_S)


class _Listener(logging.handlers.QueueListener):
    def __init__(self, waiting: queue.Queue[logging.LogRecord], *handlers: logging.Handler) -> None:
        super().__init__(waiting, *handlers)
        self.waiting = waiting

    def _monitor(self) -> None:
        set_realtime_helper()
        super()._monitor()  # type: ignore[misc]

    def dequeue(self, block: bool) -> logging.LogRecord:
        """Return the next entry, after BATCH_DELAY_S if it is the only one: what logged it is more urgent."""
        entry = super().dequeue(block)
        if self.waiting.empty():
            time.sleep(BATCH_DELAY_S)
        return entry


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Queues an entry with its formatted message and its exception; drops it if the queue is full."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        kept = copy.copy(record)
        kept.msg, kept.args = record.getMessage(), None
        return kept

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


class HumanFormatter(logging.Formatter):
    """The form for people: local time, level, process, message."""

    def __init__(self, role: Role, worker: int | None = None) -> None:
        who = role if worker is None else f"{role} {worker}"
        super().__init__(f"%(asctime)s %(levelname)s {who}: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format the part before an exception: the message, and the ids of the request that it is about."""
        fields = [f"{name}={value}" for name, value in _extra(record).items()]
        return super().formatMessage(record) + (f" [{' '.join(fields)}]" if fields else "")

    def format(self, record: logging.LogRecord) -> str:
        """Format the entry; lines after the first are indented."""
        return super().format(record).translate(_ESCAPES).replace("\n", "\n" + INDENT)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, role, pid; worker (its index), ids and exception if
    there are any.
    """

    def __init__(self, role: Role, worker: int | None = None) -> None:
        super().__init__()
        self._process: dict[str, Any] = {"role": role, "pid": os.getpid()}
        if worker is not None:
            self._process["worker"] = worker

    def format(self, record: logging.LogRecord) -> str:
        """Format the entry as one line, without the line break."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._process,
        }
        entry |= _extra(record)
        if record.exc_info and record.exc_info[1] is not None:
            entry["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(entry)


def _extra(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(value) for name in _EXTRA if (value := getattr(record, name, None)) is not None}
