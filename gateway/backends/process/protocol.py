"""What a worker and the process of a version say to each other, each message a JSON array that begins with its kind.

Worker to process
    [CALL, id, deadline_ns, alone, tensors]     `alone`: in no batch with others
    [CANCEL, id]                                its caller does not wait any more
    [RETURN, [offset, ...]]                     the answers in these blocks have been read

Process to worker, after one object that describes the version, or {"error": why it cannot be loaded}
    [ANSWER, id, tensors, queued_ns, batch_rows, run_ns, counts]     `counts`: the first answer of its batch
    [ERROR, id, kind, text]
    [FREE, id]                                  of a call that was cancelled, or due: it reads the inputs no longer

The inputs of a call stay in the worker's memory until ANSWER, ERROR or FREE has come, whatever its deadline: only then
may others be written there. The same holds for answers until RETURN. When either side is gone, so are its connection
and the memory on both sides, and no message of one connection means anything to the next.
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
    """Kind and text of an error."""
    kind = type(error).__name__
    return (kind, str(error)) if kind in KINDS else (ModelFailed.__name__, f"{kind}: {error}")


def raised(kind: str, text: str) -> RequestError:
    """The error that was described."""
    return KINDS.get(kind, ModelFailed)(text)
