"""The messages between a worker and a version's process; each is a JSON array that begins with its kind.

Worker to process
    [CALL, id, deadline_ns, alone, tensors]     `alone`: shares no batch
    [CANCEL, id]                                the caller no longer waits
    [RETURN, [offset, ...]]                     the answers in these blocks have been read

Process to worker, after one object that describes the version, or {"error": why it cannot be loaded}
    [ANSWER, id, tensors, queued_ns, batch_rows, run_ns, counts]     `counts`: the first answer of its batch
    [ERROR, id, kind, text]
    [FREE, id]                                  of a cancelled or expired call: its inputs are no longer read

The inputs of a call stay reserved in the worker's memory until ANSWER, ERROR or FREE arrives, even past its deadline.
Answers stay reserved until RETURN. If either side ends, the connection and the memory of both sides are dropped;
messages refer only to their own connection.
"""

from typing import Final

from gateway.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidOutput,
    InvalidRequest,
    ModelFailed,
    NoMemory,
    Overloaded,
    RequestError,
)

CALL: Final = 0
CANCEL: Final = 1
RETURN: Final = 2
ANSWER: Final = 0
ERROR: Final = 1
FREE: Final = 2
KINDS: Final[dict[str, type[RequestError]]] = {
    kind.__name__: kind
    for kind in (Conflict, DeadlineExceeded, InvalidOutput, InvalidRequest, ModelFailed, NoMemory, Overloaded)
}


def described(error: Exception) -> tuple[str, str]:
    """The kind and the text of an error, to be sent."""
    kind = type(error).__name__
    return (kind, str(error)) if kind in KINDS else (ModelFailed.__name__, f"{kind}: {error}")


def raised(kind: str, text: str) -> RequestError:
    """The error of that kind and text."""
    return KINDS.get(kind, ModelFailed)(text)
