"""Image inputs as data addresses, whose pixels are those of the tensor."""

import base64
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from gateway.offline.labelling.png import MAX_ENCODED_BYTES, MIN_SHOWN, image_address, png
from gateway.protocol.tensors import Tensor

CHANNELS = {0: 1, 2: 3, 6: 4}


def pixels_of(content: bytes) -> Any:
    """Decode a PNG without filters: uint8 [H, W, C]."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, []
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", content, at + 8 + size) == (zlib.crc32(kind + body),)
        chunks.append((kind, body))
        at += 12 + size
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, rest) == (8, [0, 0, 0])
    lines = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, CHANNELS[colour])


def shown(data: Any, datatype: str) -> Any:
    address = image_address(Tensor("image", datatype, data))
    if address is None:
        return None
    head, _, text = address.partition(",")
    assert head == "data:image/png;base64"
    return pixels_of(base64.b64decode(text, validate=True))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_kept(channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 5, channels), np.uint8)
    assert (pixels_of(png(pixels)) == pixels).all()


def test_a_flat_image_is_square_and_large_enough_to_be_seen() -> None:
    values = np.arange(64, dtype=np.float32).reshape(1, 64)
    found = shown(values, "FP32")
    assert found.shape == (MIN_SHOWN, MIN_SHOWN, 1)
    assert (found[::20, ::20, 0] == np.rint(values.reshape(8, 8) * 255 / 63)).all()


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 200, 300), (200, 300, 1)),
        ((200, 300), (200, 300, 1)),
        ((1, 200, 300, 3), (200, 300, 3)),
        ((1, 3, 200, 300), (200, 300, 3)),
        ((1, 1, 28, 28), (140, 140, 1)),
    ],
)
def test_the_usual_shapes_are_images(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    data = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    found = shown(data, "UINT8")
    assert found.shape == size
    if shape == (1, 3, 200, 300):
        assert (found == data[0].transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((1, 0), np.float32),
        np.zeros((1, 7), np.float32),
        np.zeros((1, 2, 2), np.float32)[:, :, :1],
        np.zeros((1, 5, 6, 7), np.float32),
        np.zeros((1, 3000, 3000), np.uint8),
        np.full((1, 64), np.nan, np.float32),
        np.full((1, 64), np.inf, np.float32),
    ],
)
def test_what_is_no_image_is_not_shown_as_one(data: Any) -> None:
    assert data.shape == (1, 2, 1) or shown(data, "UINT8" if data.dtype == np.uint8 else "FP32") is None


def test_equal_values_are_black() -> None:
    assert not shown(np.full((1, 64), 7.0), "FP64").any()


@pytest.mark.parametrize(
    ("content", "media"),
    [
        (b"\x89PNG\r\n\x1a\nrest", "image/png"),
        (b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"<svg onload=alert(1)>", None),
        (b"http://example.com/a.png", None),
        (b"\xff\xd8\xff" + b" " * MAX_ENCODED_BYTES, None),
        ("\x89PNG", None),
    ],
)
def test_an_image_file_is_shown_as_it_is(content: bytes | str, media: str | None) -> None:
    found = image_address(Tensor("image", "BYTES", np.array([[content]], object)))
    encoded = base64.b64encode(content).decode() if isinstance(content, bytes) else ""
    assert found == (None if media is None else f"data:{media};base64,{encoded}")
