"""Log lines on stderr, for people or for programs. One entry is told from the next whatever a message holds.

A message may quote what a client has sent. In JSON all but plain ASCII is escaped; for people control characters are
escaped, and a further line of the same entry is indented: only an entry's first line begins with its time.
"""

import contextlib
import copy
import json
import logging
import logging.handlers
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal

from gateway.settings.gateway import LogForm
from gateway.system.scheduling import set_realtime_helper

INDENT: Final = "    "
# Those that a terminal or a reader of lines acts on: C0 but for the line break, DEL, C1, and Unicode's own breaks and
# reorderings, which can make a line look like another (CVE-2021-42574).
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
_EXTRA: Final = ("prediction_id", "trace_id", "request_id")  # given as logging's `extra`
MAX_QUEUED: Final = 10_000
CLOSE_TIMEOUT_S: Final = 2.0
BATCH_DELAY_S: Final = 0.01
Role = Literal["control", "worker"]


def configure(form: LogForm, role: Role, worker: int | None = None) -> None:
    """Have every logger of this process, and Python's warnings, write to stderr. `worker`: its index."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(role, worker) if form == "json" else HumanFormatter(role, worker))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


@contextlib.contextmanager
def log_in_thread() -> Iterator[None]:
    """Meanwhile no one who logs waits for whoever reads stderr, nor for its disk: a thread of its own does.

    What it cannot write is lost beyond WAITING entries, and at the end beyond CLOSE_TIMEOUT_S.
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
        ending = threading.Thread(target=listener.stop, daemon=True)
        ending.start()
        ending.join(CLOSE_TIMEOUT_S)


class _Listener(logging.handlers.QueueListener):
    def __init__(self, waiting: queue.Queue[logging.LogRecord], *handlers: logging.Handler) -> None:
        super().__init__(waiting, *handlers)
        self.waiting = waiting

    def _monitor(self) -> None:
        set_realtime_helper()
        super()._monitor()  # type: ignore[misc]

    def dequeue(self, block: bool) -> logging.LogRecord:
        """The next entry; one alone waits a little: whoever has said it has something more urgent to do."""
        entry = super().dequeue(block)
        if self.waiting.empty():
            time.sleep(BATCH_DELAY_S)
        return entry


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Keeps an entry as it is now, its exception included, and drops it where too many wait."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        kept = copy.copy(record)
        kept.msg, kept.args = record.getMessage(), None
        return kept

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


class HumanFormatter(logging.Formatter):
    """Time, level, process, message; local time."""

    def __init__(self, role: Role, worker: int | None = None) -> None:
        who = role if worker is None else f"{role} {worker}"
        super().__init__(f"%(asctime)s %(levelname)s {who}: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """What stands before an exception: the message, and of which request it tells."""
        fields = [f"{name}={value}" for name, value in _extra(record).items()]
        return super().formatMessage(record) + (f" [{' '.join(fields)}]" if fields else "")

    def format(self, record: logging.LogRecord) -> str:
        """The entry; lines after its first one are indented."""
        return super().format(record).translate(_ESCAPES).replace("\n", "\n" + INDENT)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, role, worker (its index), pid; the rest if known."""

    def __init__(self, role: Role, worker: int | None = None) -> None:
        super().__init__()
        self._process: dict[str, Any] = {"role": role, "pid": os.getpid()}
        if worker is not None:
            self._process["worker"] = worker

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
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
