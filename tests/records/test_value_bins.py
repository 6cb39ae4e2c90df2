"""The bins of a regression's numbers: every number has one, by the range alone."""

import math

import pytest

from gateway.records.value_bins import WITHIN, bin_names, bin_of
from gateway.shm.tally import CLASSES

BOUNDS = (-10.0, 52.0)  # bins of a width of 1


@pytest.mark.parametrize(
    ("value", "place"),
    [(-10.1, 0), (-math.inf, 0), (-10, 1), (-9.01, 1), (-9, 2), (0.5, 11), (51.99, WITHIN), (52, 63), (1e9, 63)],
)  # fmt: skip
def test_number_is_counted_in_the_bin_that_holds_it(value: float, place: int) -> None:
    assert bin_of(value, BOUNDS) == place


def test_bins_are_named_by_their_edges() -> None:
    names = bin_names(BOUNDS)
    assert len(names) == len(set(names)) == CLASSES
    assert (names[0], names[1], names[11], names[-1]) == ("below -10", "-10 to -9", "0 to 1", "from 52")


def test_number_just_below_the_highest_is_within() -> None:
    assert bin_of(math.nextafter(0.3, 0), (0.1, 0.3)) in (WITHIN, CLASSES - 1)
