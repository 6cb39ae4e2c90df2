"""Durations by size."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts for each bucket up to its edge, the last one for what is beyond all; `sum_ns` of all of it."""

    edges_ns: Sequence[int]
    counts: list[int]
    sum_ns: int
