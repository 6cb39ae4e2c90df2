"""Encodes the outputs of a large response as JSON on a thread, without holding the GIL for long.

orjson holds the GIL for a whole call: 20 MB take 100 ms. So the elements are encoded in pieces, and the event loop can
run between them.
"""

import time
from typing import Any, Final

import orjson

from gateway.protocol.elements import to_json
from gateway.protocol.tensors import Array

PIECE_ELEMENTS: Final = 32_768  # elements encoded at once: about 2 ms
_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY


def outputs_json(outputs: list[dict[str, Any]]) -> tuple[bytes, bool]:
    """Encode the list of outputs, which are objects from `json_output` or without data.

    Returns the JSON and whether all numbers are known to be finite.
    """
    parts: list[bytes] = []  # joined once: each copy of a large response costs its size
    finite = True
    for number, output in enumerate(outputs):
        parts.append(b"," if number else b"[")
        about = orjson.dumps({name: value for name, value in output.items() if name != "data"}, option=_NUMPY)
        if "data" not in output:
            parts.append(about)
            continue
        pieces, known = _elements(output["data"], output["datatype"])
        finite &= known
        parts.append(about[:-1] + b',"data":[')
        for at, piece in enumerate(pieces):
            parts.extend((b",", piece) if at else (piece,))
        parts.append(b"]}")
    parts.append(b"]" if outputs else b"[]")
    return b"".join(parts), finite


def _elements(data: Any, datatype: str) -> tuple[list[bytes], bool]:
    finite = True
    pieces: list[bytes] = []
    for start in range(0, len(data), PIECE_ELEMENTS):
        piece: Array = data[start : start + PIECE_ELEMENTS]
        text = orjson.dumps(piece, option=_NUMPY)
        if b"null" in text and datatype != "BYTES":  # NaN or infinity, which JSON numbers cannot express
            text = orjson.dumps(to_json(piece, datatype))
            finite = False
        pieces.append(text[1:-1])
        time.sleep(0)  # releases the GIL to the event loop
    return pieces, finite
