"""Converts recorded image inputs to data addresses (RFC 2397) that a browser shows: PNG (W3C, third edition)."""

import base64
import math
import struct
import zlib
from typing import Any, Final

import numpy as np

from gateway.protocol.tensors import Array, Tensor

MIN_SHOWN: Final = 160  # pixels of the longer side: smaller images are enlarged by a whole factor
MAX_PIXELS: Final = 4_000_000
MAX_ENCODED_BYTES: Final = 8 * 1024**2  # of an image that was sent as a file
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES: Final = {1: 0, 3: 2, 4: 6}  # by channels: grey, RGB, RGB with opacity
_FILES: Final = {  # by their first bytes; SVG is not among them, because it may hold scripts
    b"\x89PNG\r\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


def image_address(tensor: Tensor) -> str | None:
    """The data address of the image of one row; None if the tensor holds none that is known.

    It may be an image file in a BYTES element; or values [H, W], [H, W, C] or [C, H, W] with C of 1, 3 or 4, or a
    square image in one list, of any numeric datatype. Values but UINT8's are stretched from their least to their most.
    """
    if tensor.datatype == "BYTES":
        return _file_address(tensor.data.ravel()[0]) if tensor.data.size == 1 else None
    pixels = _pixels(tensor)
    return None if pixels is None else _address("image/png", png(pixels))


def png(pixels: Array) -> bytes:
    """Encode pixels, uint8 [H, W, C], as PNG."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line begins with 0: no filter
    lines[:, 1:] = pixels.reshape(height, -1)
    parts = [_chunk(b"IHDR", head), _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _pixels(tensor: Tensor) -> Array | None:
    """The image as uint8 [H, W, C], large enough to be seen."""
    shaped = _shaped(tensor.data)
    if shaped is None or shaped.shape[0] * shaped.shape[1] > MAX_PIXELS:
        return None
    if tensor.datatype != "UINT8":
        values: Any = shaped.astype(np.float64)
        low, high = float(values.min()), float(values.max())
        if not math.isfinite(low) or not math.isfinite(high):
            return None
        shaped = np.rint((values - low) * (255 / ((high - low) or 1.0)))
    factor = max(1, MIN_SHOWN // max(shaped.shape[:2]))
    return shaped.astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)


def _shaped(data: Array) -> Array | None:
    """The values as [H, W, C]; None if they have no shape of an image."""
    if not data.size:
        return None
    sizes = data.shape[1:] if data.ndim > 1 and data.shape[0] == 1 else data.shape
    if len(sizes) == 1:
        side = math.isqrt(sizes[0])
        sizes = (side, side) if side * side == sizes[0] else sizes
    if len(sizes) == 2:
        sizes = (*sizes, 1)
    if len(sizes) != 3 or min(sizes[:2]) < 1:
        return None
    if sizes[2] in _COLOUR_TYPES and min(sizes[:2]) >= 4:
        return data.reshape(sizes)
    if sizes[0] in _COLOUR_TYPES and min(sizes[1:]) >= 4:
        return data.reshape(sizes).transpose(1, 2, 0)
    return None


def _file_address(element: object) -> str | None:
    if not isinstance(element, bytes) or len(element) > MAX_ENCODED_BYTES:
        return None
    media = next((media for first, media in _FILES.items() if element.startswith(first)), None)
    return None if media is None else _address(media, element)


def _address(media: str, content: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode()}"
