"""The frames between a worker and a version's process: kind, number of the call (0: none), and payload.

Worker to process
    CALL      CALL_HEAD and the layout of the inputs
    CANCEL    the caller no longer waits
    RETURN    COUNT: answers read since the connection was made, which a call tells too

Process to worker
    GREETING  JSON: a description of the version, or {"error": why it cannot be loaded}
    ANSWER    ANSWER_HEAD and the layout of the outputs
    ERROR     JSON: kind and text
    FREE      of a cancelled or expired call: its inputs are no longer read

The inputs of a call stay reserved in the worker's memory until ANSWER, ERROR or FREE arrives, even past its deadline.
Answers are read in order, and stay reserved until a count includes them. If either side ends, the connection and the
memory of both sides are dropped; frames refer only to their own connection.

The process's memory begins with ALONE: the number of the call of this worker that is the only one in a run, while no
other run is under way. If the process dies, this call has caused it, unless something outside has.
"""

import struct
from typing import Final

import orjson

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
GREETING: Final = 3
CALL_HEAD: Final = struct.Struct("<?qQQ")  # runs alone; deadline (ns), answers read, offset
ANSWER_HEAD: Final = struct.Struct("<QqqI?")  # offset, ns queued, ns of the run, rows, whether it is its batch's first
COUNT: Final = struct.Struct("<Q")
ALONE: Final = struct.Struct("<Q")
KINDS: Final[dict[str, type[RequestError]]] = {
    kind.__name__: kind
    for kind in (Conflict, DeadlineExceeded, InvalidOutput, InvalidRequest, ModelFailed, NoMemory, Overloaded)
}


def described(error: Exception) -> bytes:
    """An error as the payload of ERROR."""
    kind, text = type(error).__name__, str(error).encode(errors="replace").decode()
    return orjson.dumps([kind, text] if kind in KINDS else [ModelFailed.__name__, f"{kind}: {text}"])


def raised(payload: bytes) -> RequestError:
    """The error in the payload of ERROR. Raises ValueError or TypeError if there is none."""
    kind, text = orjson.loads(payload)
    return KINDS.get(kind, ModelFailed)(str(text))
