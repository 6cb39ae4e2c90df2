"""Which outcomes of sticky keys count where feedback comes more often for one version: of that one, fewer.

A key is one outcome, its first. The version with more feedback hears of customers sooner who send little. Where the
level of the outcomes goes with how much a customer sends, the customers heard of differ, and so do the means, though
the versions are the same. So an outcome of a key that is not known yet counts, and makes it known, at a chance that is
by as much less as feedback comes more often: each customer is then as likely to be the next with either version.

That is so if each customer gives feedback on more answers of one version. If more of its customers give any, each on as
many answers, every first outcome is right, and this makes the customers differ: `Outcomes` counts in both ways.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

PRIOR: Final = 3.0  # of equal rates, in outcomes of either version at a weight of 50%, twice as many
TRUSTED_ERRORS: Final = 0.5  # standard errors of the ratio's logarithm by which it is taken to be nearer to 1
_MASK: Final = 2**64 - 1


class Thinning:
    """How many times as often feedback comes for the candidate's keys, by route, from the outcomes of keys that are not
    known yet: among those of all keys a few customers who send most would decide. Routes differ in it.

    With p the chance of the candidate, 1 - p is added for its outcomes and p for stable's, so that both sums are alike
    at equal rates whatever the weights (Mantel & Haenszel).
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}  # stable's, the candidate's

    def counts(self, route: str, chance: float, candidate: bool, draw: float) -> bool:
        """Whether an outcome of a key that is not known yet counts, from those before it; then learn from it. `chance`:
        of the candidate, between 0 and 1; `draw`: see `draw_of`.
        """
        stable, candidates = self._sums.get(route, (0.0, 0.0))
        self._sums[route] = (stable, candidates + 1 - chance) if candidate else (stable + chance, candidates)
        ratio = (candidates + PRIOR) / (stable + PRIOR)
        excess = math.log(ratio if candidate else 1 / ratio)
        if excess <= 0:
            return True
        excess -= TRUSTED_ERRORS * math.sqrt(2 / (stable + candidates + 2 * PRIOR))
        return excess <= 0 or draw < math.exp(-excess)

    def to_json(self) -> list[list[Any]]:
        """Return rows of route, stable's sum and the candidate's."""
        return [[route, *sums] for route, sums in self._sums.items()]

    def restore(self, rows: Sequence[Sequence[Any]]) -> None:
        """Restore the output of `to_json`."""
        self._sums = {route: (stable, candidate) for route, stable, candidate in rows}


def draw_of(key: int, decided_ns: int) -> float:
    """A number from 0 to 1 that depends on the prediction alone: the same on each host, after a restart, and when the
    records are analysed. The mixing is that of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
    """
    mixed = (decided_ns + (key + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) / 2**64
