"""Objects of a large configuration are excluded from later garbage collections."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway.control.garbage_collection import (
    FULL_INTERVAL_S,
    LARGE,
    MIDDLE_INTERVAL_S,
    PacedCollector,
    without_collection,
)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_put_aside_freezes_what_was_made_meanwhile() -> None:
    with without_collection():
        assert not gc.isenabled()
        made = [[number] for number in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(made)
    assert all(one is not made[0] for one in gc.get_objects())


@pytest.mark.parametrize("size", [0, LARGE - 1])
def test_put_aside_does_nothing_below_the_size_limit(size: int) -> None:
    before = gc.get_freeze_count()
    with without_collection(size):
        assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_nested_put_aside_ends_with_the_outer_one() -> None:
    with pytest.raises(ValueError, match="whatever"), without_collection():
        with without_collection():
            pass
        assert not gc.isenabled()
        raise ValueError("whatever")
    assert gc.isenabled()


class _Cycle:
    """Only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_paced_collector_collects_only_in_its_steps() -> None:
    collector = PacedCollector()
    left = weakref.ref(_Cycle())
    made = [[number] for number in range(100_000)]  # enough for a hundred of the interpreter's own collections
    assert left() is not None
    collector.step()
    assert left() is None
    assert made


@pytest.mark.parametrize(("passed_s", "generation"), [(MIDDLE_INTERVAL_S, 1), (FULL_INTERVAL_S, 2)])
def test_paced_collector_collects_an_older_generation_when_it_is_time(passed_s: float, generation: int) -> None:
    now_s = 0.0
    collector = PacedCollector(lambda: now_s)
    cycle = _Cycle()
    left = weakref.ref(cycle)
    for younger in range(generation):
        gc.collect(younger)  # it is now of this generation
    del cycle
    collector.step()
    assert left() is not None
    now_s = passed_s
    collector.step()
    assert left() is None


def test_paced_collector_does_nothing_without_collection() -> None:
    collector = PacedCollector()
    left = weakref.ref(_Cycle())
    with without_collection():
        collector.step()
        assert left() is not None
    assert not gc.isenabled()


def test_overlapping_blocks_end_with_the_last() -> None:
    first, second = without_collection(), without_collection()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
