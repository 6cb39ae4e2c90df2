"""Tensors through shared memory: what is written is what is read, and nothing that is described is believed."""

import os
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.backends.process.tensors import TensorReader, TensorWriter
from gateway.protocol.tensors import DATATYPES, Array
from gateway.shm.arena import Arena, ArenaError, ArenaView

NUMBERS = [kind.dtype for kind in DATATYPES.values() if kind.code]


def through(given: dict[str, Array]) -> dict[str, Array]:
    arena = Arena()
    written = TensorWriter(arena).write(list(given.items()))
    assert written is not None
    found = TensorReader(ArenaView(os.dup(arena.file))).read(written[0].offset, written[1], copy=True)
    return {name: array for name, array in found if array is not None}


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_numbers_of_every_datatype_and_shape(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(NUMBERS))
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)))
    found = through({"x": array, "y": np.arange(3.0)})
    assert (found["x"].dtype, found["x"].shape) == (array.dtype, array.shape)
    assert found["x"].tobytes() == array.tobytes()
    assert found["y"].tolist() == [0, 1, 2]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=9))
def test_texts(texts: list[str]) -> None:
    array = np.empty((len(texts), 1), object)
    array[:, 0] = texts
    found = through({"x": array})["x"]
    assert (found.shape, found.ravel().tolist()) == (array.shape, texts)


def test_texts_that_are_not_utf8_and_views_that_are_not_contiguous() -> None:
    void = np.array([b"\xff\x00a", b"b"], "V3")
    turned = np.arange(12.0).reshape(3, 4).T[::2]
    found = through({"v": void, "t": turned})
    assert found["v"].tobytes() == void.tobytes()
    assert found["t"].tolist() == turned.tolist()


def test_write_without_memory_gives_none() -> None:
    assert TensorWriter(Arena(limit=1 << 18)).write([("x", np.zeros(1 << 20))]) is None


@pytest.mark.parametrize(
    "described",
    [
        ["x", "<f4", [2], 0, 4],
        ["x", "<f4", [-2], 0, 8],
        ["x", "<f4", [1 << 40], 0, 1 << 42],
        ["x", "<f4", [2], 1 << 40, 8],
        ["x", "<f4", [2], -8, 8],
        ["x", "O", [2], 0, 2],
        ["x", "O", [1], 0, 8],
        ["x", "<M8[s]", [1], 0, 8],
        ["x", "|V0", [1], 0, 0],
        ["x", "<f4", [1] * 40, 0, 4],
        [7, "<f4", [1], 0, 4],
        ["x", "<f4", "ab", 0, 8],
        ["x", "<f4"],
        None,
        5,
    ],
    ids=repr,
)
def test_read_refuses_what_does_not_fit(described: Any) -> None:
    arena = Arena()
    arena.take(64)
    layout = b"null" if described is None else orjson.dumps([described])
    with pytest.raises(ArenaError):
        TensorReader(ArenaView(os.dup(arena.file))).read(0, layout, copy=True)
