"""The outputs of a large answer as JSON, written on a thread that leaves the event loop the interpreter's lock.

orjson holds the lock until it has written all: 20 MB take 100 ms. So the elements are written a piece at a time.
"""

import time
from typing import Any, Final

import orjson

from gateway.protocol.elements import to_json
from gateway.protocol.tensors import Array

PIECE_ELEMENTS: Final = 32_768  # elements written at once: about 2 ms
_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY


def outputs_json(outputs: list[dict[str, Any]]) -> tuple[bytes, bool]:
    """The list of outputs from `json_output` and its like; and whether all numbers are finite for sure."""
    parts: list[bytes] = []
    finite = True
    for output in outputs:
        about = orjson.dumps({name: value for name, value in output.items() if name != "data"}, option=_NUMPY)
        if "data" not in output:
            parts.append(about)
            continue
        pieces, known = _elements(output["data"], output["datatype"])
        finite &= known
        parts.append(b'%b,"data":[%b]}' % (about[:-1], b",".join(pieces)))
    return b"[%b]" % b",".join(parts), finite


def _elements(data: Any, datatype: str) -> tuple[list[bytes], bool]:
    finite = True
    pieces: list[bytes] = []
    for start in range(0, len(data), PIECE_ELEMENTS):
        piece: Array = data[start : start + PIECE_ELEMENTS]
        text = orjson.dumps(piece, option=_NUMPY)
        if b"null" in text and datatype != "BYTES":  # NaN or infinity, which JSON has no numbers for
            text = orjson.dumps(to_json(piece, datatype))
            finite = False
        pieces.append(text[1:-1])
        time.sleep(0)  # the event loop may want to go on
    return pieces, finite
