"""Summarises inputs: a key that equal inputs share, and a short text or picture to show."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateway.protocol.elements import to_bytes
from gateway.protocol.tensors import Tensor
from gateway.records.prediction import Prediction

MAX_TEXT: Final = 80
_LARGEST_PICTURE: Final = 32 * 32


@dataclass(frozen=True, slots=True)
class InputSummary:
    """An input as shown in reports. `picture`: rows of grey values from 0 to 1; empty if it is not an image."""

    text: str
    picture: Sequence[Sequence[float]] = ()


def row_of(inputs: Sequence[Tensor], row: int, rows: int) -> Sequence[Tensor]:
    """The inputs of one row of `rows`. An input that has not a value for each row belongs to all of them."""
    if rows == 1:
        return inputs
    return [
        Tensor(tensor.name, tensor.datatype, tensor.data[row : row + 1]) if tensor.shape[:1] == (rows,) else tensor
        for tensor in inputs
    ]


def key_of(prediction: Prediction, inputs: Sequence[Tensor], row: int = 0) -> bytes | None:
    """Return a key that is the same for equal inputs of a row.

    If only the body's hash is recorded, it is the key, with the number of the row; else None.
    """
    if not inputs:
        return f"{prediction.request_sha256} {row}".encode() if prediction.request_sha256 else None
    digest = hashlib.blake2b(digest_size=16)
    for tensor in sorted(inputs, key=lambda tensor: tensor.name):
        digest.update(f"{tensor.name} {tensor.datatype} {tensor.shape} ".encode())
        digest.update(to_bytes(tensor.data, tensor.datatype))
    return digest.digest()


def summary_of(prediction: Prediction, inputs: Sequence[Tensor]) -> InputSummary:
    """Summarise the first input: its text, its picture or its first numbers."""
    if not inputs:
        return InputSummary("(not recorded)")
    tensor = inputs[0]
    if tensor.datatype == "BYTES":
        return InputSummary(_shortened(" | ".join(map(_text, tensor.data.ravel()[:4]))))
    if prediction.modality == "image" and (picture := _picture(tensor)):
        return InputSummary("", picture)
    values = ", ".join(f"{value:.4g}" for value in tensor.data.ravel()[:8].tolist())
    return InputSummary(f"{values}{', …' if tensor.data.size > 8 else ''}")


def _picture(tensor: Tensor) -> list[list[float]]:
    """Convert a tensor that is a square grey image, flat or not, to rows from 0 to 1; empty if it is not one."""
    side = math.isqrt(tensor.data.size)
    sizes = [size for size in tensor.shape if size != 1]
    if side < 4 or side * side != tensor.data.size or side * side > _LARGEST_PICTURE or len(sizes) > 2:
        return []
    values: Any = tensor.data.reshape(side, side).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or not math.isfinite(high):
        return []
    scaled: list[list[float]] = ((values - low) / (high - low or 1.0)).round(3).tolist()
    return scaled


def _text(element: object) -> str:
    if isinstance(element, bytes):
        try:
            return element.decode()
        except UnicodeDecodeError:
            return f"({len(element):,} bytes)"
    return str(element)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
