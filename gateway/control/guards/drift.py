"""Tests whether the candidate predicts classes in other proportions than stable, by blocks of rows, route by route.

Only its number of rows closes a block, never the predicted classes. Blocks grow with the rows seen so far, so that
their number stays small enough to be stored as evidence.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from gateway.control.guards.evidence import Block, log_drift_of
from gateway.control.guards.observation import ClassCounts

MIN_BLOCK: Final = 10  # rows of each variant in a block
BLOCK_GROWTH: Final = 0.1  # smallest size of a block, as a share of all rows before it


class Stratum:
    """The blocks of one route since the last restart, and their evidence (`log_e`, natural logarithm)."""

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        self.blocks: list[Block] = []
        self.log_e = 0.0
        self._before: Block | None = None
        for block in blocks:
            self._add(block)

    def observe(self, since: Block) -> bool:
        """Close a block of `since`, the rows after the last block, if they are enough; return whether it did."""
        if not self._is_whole(since):
            return False
        self._add(since)
        return True

    def _add(self, block: Block) -> None:
        self.log_e += log_drift_of(block, self._before)
        before = self._before
        self._before = block if before is None else Block(*(a + b for a, b in zip(before, block, strict=True)))
        self.blocks.append(block)

    def _is_whole(self, since: Block) -> bool:
        before = 0 if self._before is None else int(self._before.candidate.sum() + self._before.stable.sum())
        rows = int(since.candidate.sum()), int(since.stable.sum())
        return min(rows) >= MIN_BLOCK and sum(rows) >= BLOCK_GROWTH * before


class Drift:
    """The drift of all routes. Their evidence is independent, so the e-values multiply (logarithms add up)."""

    def __init__(self) -> None:
        self._strata: list[Stratum] = []
        self._seen: ClassCounts | None = None  # until the end of each route's last block

    @property
    def log_e(self) -> float:
        """The evidence of a difference, as the natural logarithm of the e-value."""
        return sum(stratum.log_e for stratum in self._strata)

    @property
    def blocks(self) -> Sequence[Sequence[Block]]:
        """The blocks of each route since the last restart."""
        return [stratum.blocks for stratum in self._strata]

    def observe(self, counts: ClassCounts) -> None:
        """Take in the present counters. If their shape has changed, so has the configuration: start over."""
        if self._seen is None or self._seen.candidate.shape != counts.candidate.shape:
            self._seen = ClassCounts(counts.candidate.copy(), counts.stable.copy())
            if self._shape() != counts.candidate.shape:
                self._strata = [Stratum() for _ in counts.candidate]
        news = (counts.candidate != self._seen.candidate).any(axis=1) | (counts.stable != self._seen.stable).any(axis=1)
        for i in np.flatnonzero(news):
            stratum = self._strata[i]
            since = Block(counts.candidate[i] - self._seen.candidate[i], counts.stable[i] - self._seen.stable[i])
            if stratum.observe(since):
                self._seen.candidate[i], self._seen.stable[i] = counts.candidate[i], counts.stable[i]

    def restart(self) -> None:
        """Drop all evidence and start over from the next counters."""
        self._seen = None
        self._strata = []

    reset = restart

    def to_json(self) -> dict[str, Any]:
        """Return the blocks for a file. Rows after the last block are left out: after a gateway restart their counters
        also start at 0.
        """
        return {"strata": blocks_to_json(self.blocks)}

    def restore(self, kept: dict[str, Any]) -> None:
        """Restore the output of `to_json`."""
        self._seen = None
        self._strata = [Stratum(blocks) for blocks in blocks_from_json(kept["strata"])]

    def _shape(self) -> tuple[int, ...] | None:
        """(routes, classes) of the blocks so far; None if there are none."""
        classes = {len(block.candidate) for stratum in self._strata for block in stratum.blocks}
        return (len(self._strata), *classes) if classes else None


def blocks_to_json(strata: Sequence[Sequence[Block]]) -> list[list[list[list[int]]]]:
    """Convert to lists: for each route and block, the candidate's rows by class, then stable's."""
    return [[[arm.tolist() for arm in block] for block in blocks] for blocks in strata]


def blocks_from_json(strata: Sequence[Sequence[Sequence[Sequence[int]]]]) -> list[list[Block]]:
    """Convert back from the lists of `blocks_to_json`."""
    return [[Block(*(np.array(arm, np.int64) for arm in block)) for block in blocks] for blocks in strata]
