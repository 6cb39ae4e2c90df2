"""The arena: blocks are given out once, memory is bounded, and the reader believes nothing."""

import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.shm.arena import LARGE, SMALLEST, STEP, Arena, ArenaError, ArenaView


def test_blocks_hold_what_was_asked_for_and_do_not_overlap() -> None:
    arena = Arena()
    blocks = [arena.take(size) for size in (0, 1, 1000, 1024, 1025, 5000, STEP, STEP + 1, 3 * LARGE)]
    spans = sorted((block.offset, block.offset + block.size) for block in blocks if block is not None)
    assert len(spans) == 9
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_block_given_back_is_given_out_again() -> None:
    arena = Arena()
    first = arena.take(2000)
    assert first is not None
    arena.give_back(first)
    assert arena.take(1500) is first
    assert arena.taken == 1


def test_take_beyond_the_limit_gives_none_and_what_is_given_back_can_be_taken() -> None:
    arena = Arena(limit=4 * LARGE)
    blocks = [arena.take(LARGE) for _ in range(4)]
    assert None not in blocks
    assert arena.take(LARGE) is None
    assert arena.take(SMALLEST) is None
    assert blocks[0] is not None
    arena.give_back(blocks[0])
    assert arena.take(LARGE) is not None


def test_large_blocks_that_are_free_give_their_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.shm.arena.SPARE", 2 * LARGE)
    arena = Arena(limit=64 * LARGE)
    blocks = [arena.take(LARGE) for _ in range(32)]
    for block in blocks:
        assert block is not None
        block.view[:] = b"x" * LARGE
    held = os.fstat(arena.file).st_blocks * 512
    for block in blocks:
        assert block is not None
        arena.give_back(block)
    assert os.fstat(arena.file).st_blocks * 512 <= 2 * LARGE < held
    again = [arena.take(LARGE) for _ in range(32)]
    assert len({block.offset for block in again if block is not None}) == 32
    for block in again:
        assert block is not None
        block.view[:] = b"y" * LARGE


def test_reader_sees_what_the_writer_wrote_also_after_growth() -> None:
    arena = Arena()
    view = ArenaView(os.dup(arena.file))
    for size in (10, STEP, 5 * STEP):
        block = arena.take(size)
        assert block is not None
        block.view[:10] = bytes(range(10))
        assert bytes(view.read(block.offset, 10)) == bytes(range(10))


@pytest.mark.parametrize(("offset", "size"), [(0, STEP + 1), (STEP, 1), (-1, 4), (0, -1), (2**62, 2**62)])
def test_reader_refuses_what_is_not_within_the_memory(offset: int, size: int) -> None:
    arena = Arena()
    arena.take(1)
    with pytest.raises(ArenaError):
        ArenaView(os.dup(arena.file)).read(offset, size)


def test_reader_refuses_memory_that_could_be_shrunk() -> None:
    with pytest.raises(ArenaError, match="sealed"):
        ArenaView(os.memfd_create("shrinks", os.MFD_ALLOW_SEALING))


def test_the_other_side_cannot_shrink_the_memory() -> None:
    arena = Arena()
    arena.take(1)
    with pytest.raises(PermissionError):
        os.ftruncate(arena.file, 0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3 * STEP)), max_size=60))
def test_no_two_takers_ever_hold_the_same_bytes(steps: list[tuple[bool, int]]) -> None:
    arena, held = Arena(), []
    for mark, (take, size) in enumerate(steps):
        if take or not held:
            block = arena.take(size)
            assert block is not None
            block.view[:] = bytes([mark % 251]) * block.size
            held.append((block, mark % 251))
        else:
            block, before = held.pop(size % len(held))
            assert np.all(np.frombuffer(block.view, np.uint8) == before)
            arena.give_back(block)
    assert arena.taken == len(held)
