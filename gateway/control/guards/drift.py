"""Whether the candidate predicts the classes in other shares than stable: blocks of rows, route by route.

A block is closed by its numbers of rows, never by what they were predicted as. Blocks grow with what has been seen, so
that their number stays small enough to be kept as evidence.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from gateway.control.guards.evidence import Block, log_drift_of
from gateway.control.guards.observation import ClassCounts

SMALLEST: Final = 10  # rows of each variant in a block
GROWTH: Final = 0.1  # of the rows before it


class Stratum:
    """One route: its blocks since the last restart."""

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        self.blocks: list[Block] = []
        self.log_e = 0.0
        self._before: Block | None = None
        for block in blocks:
            self._add(block)

    def observe(self, since: Block) -> bool:
        """`since`: the rows after the last block; True when they became one."""
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
        return min(rows) >= SMALLEST and sum(rows) >= GROWTH * before


class Drift:
    """All routes: their evidence is independent, and multiplies."""

    def __init__(self) -> None:
        self._strata: list[Stratum] = []
        self._seen: ClassCounts | None = None  # until the end of each route's last block

    @property
    def log_e(self) -> float:
        """The evidence of a difference."""
        return sum(stratum.log_e for stratum in self._strata)

    @property
    def blocks(self) -> Sequence[Sequence[Block]]:
        """By route, since the last restart."""
        return [stratum.blocks for stratum in self._strata]

    def observe(self, counts: ClassCounts) -> None:
        """Counters as they are now. Where their shape is new, they are of another configuration: all starts anew."""
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
        """The evidence starts anew, from the next counters on."""
        self._seen = None
        self._strata = []

    forget = restart

    def to_json(self) -> dict[str, Any]:
        """For a file. Rows after the last block are left out: over a restart their counters begin at 0 too."""
        return {"strata": blocks_to_json(self.blocks)}

    def restore(self, kept: dict[str, Any]) -> None:
        """What `to_json` gave."""
        self._seen = None
        self._strata = [Stratum(blocks) for blocks in blocks_from_json(kept["strata"])]

    def _shape(self) -> tuple[int, ...] | None:
        """Of the blocks so far; None where there are none."""
        classes = {len(block.candidate) for stratum in self._strata for block in stratum.blocks}
        return (len(self._strata), *classes) if classes else None


def blocks_to_json(strata: Sequence[Sequence[Block]]) -> list[list[list[list[int]]]]:
    """For each route, for each block: the candidate's rows by class, and stable's."""
    return [[[arm.tolist() for arm in block] for block in blocks] for blocks in strata]


def blocks_from_json(strata: Sequence[Sequence[Sequence[Sequence[int]]]]) -> list[list[Block]]:
    """The blocks out of such lists."""
    return [[Block(*(np.array(arm, np.int64) for arm in block)) for block in blocks] for blocks in strata]
