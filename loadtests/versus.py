"""How two versions do on the same images, and whether the difference is more than chance."""

from dataclasses import dataclass
from math import comb
from typing import Any

from gateway.offline.statistics import Rate


@dataclass(frozen=True, slots=True)
class Against:
    """Version 2 against something else on the same images. `fixed`: only version 2 has them right; `regressed`: only
    the other has. `rate`: how many the other has right.
    """

    rate: Rate
    fixed: int
    regressed: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided: do both get equally many right?"""
        return mcnemar(self.fixed, self.regressed)

    @property
    def better(self) -> bool:
        return self.fixed > self.regressed


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Version 2 on the held-out images, against version 1, and against the `network` that it is itself, trained on no
    more than version 1 was: the first is what the loop has brought, the second what the traffic has.
    """

    rate: Rate
    stable: Against
    network: Against


def against(new: Any, other: Any) -> Against:
    """From which of the same images each has right, [n] booleans."""
    return Against(Rate(int(other.sum()), len(other)), int((new & ~other).sum()), int((other & ~new).sum()))


def mcnemar(one: int, other: int) -> float:
    """The chance of so uneven a split of one + other discordant pairs, or a more uneven one. McNemar 1947, exact."""
    count = one + other
    tail = sum(comb(count, hits) for hits in range(min(one, other) + 1))
    return float(min(1.0, 2 * tail / 2**count))
