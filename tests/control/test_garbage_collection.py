"""Objects of a large configuration are excluded from later garbage collections."""

import gc
from collections.abc import Iterator

import pytest

from gateway.control.garbage_collection import LARGE, without_collection


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
