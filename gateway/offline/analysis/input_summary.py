"""What a request asked, boiled down: a key that equal inputs share, and a picture where it is one."""

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
    """What a person is shown of an input. `picture`: rows of grey values from 0 to 1, empty where it is none."""

    text: str
    picture: Sequence[Sequence[float]] = ()


def key_of(prediction: Prediction, inputs: Sequence[Tensor]) -> bytes | None:
    """The same for equal inputs, by the hash of the body where inputs are not recorded; None where nothing is known."""
    if not inputs:
        return prediction.request_sha256.encode() if prediction.request_sha256 else None
    digest = hashlib.blake2b(digest_size=16)
    for tensor in sorted(inputs, key=lambda tensor: tensor.name):
        digest.update(f"{tensor.name} {tensor.datatype} {tensor.shape} ".encode())
        digest.update(to_bytes(tensor.data, tensor.datatype))
    return digest.digest()


def summary_of(prediction: Prediction, inputs: Sequence[Tensor]) -> InputSummary:
    """The text, the picture or the first numbers of an input."""
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
    """A square grey picture, flat or not; empty where the tensor is none."""
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
