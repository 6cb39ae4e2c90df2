"""How long a stable version takes to answer, queue included: the 99th percentile of its last answers."""

import math
from array import array
from typing import Final

import numpy as np

KEPT: Final = 1000  # answers
RENEWED: Final = 100  # answers after which the percentile is worked out anew, when someone asks; sooner at first
SHARE: Final = 0.99


class Pace:
    """Of one version in one worker. `warm_up_us`: what its warm-up measured, NaN where it could not run."""

    __slots__ = ("_count", "_due", "_p99_ns", "_taken", "_warm_up_ns")

    def __init__(self, warm_up_us: float) -> None:
        self._warm_up_ns = self._p99_ns = int(warm_up_us * 1000) if math.isfinite(warm_up_us) else 0
        self._taken: array[int] = array("q")
        self._count = 0
        self._due = 1

    def add(self, ns: int) -> None:
        """One answer, after `ns`."""
        if self._count < KEPT:
            self._taken.append(ns)
        else:
            self._taken[self._count % KEPT] = ns
        self._count += 1

    @property
    def p99_ns(self) -> int:
        """Of the last answers, however old; of the warm-up where there are none. 0: nothing is known."""
        if self._count >= self._due:
            self._renew()
        return self._p99_ns

    def _renew(self) -> None:
        taken = np.array(self._taken, np.int64)
        rank = math.ceil(SHARE * len(taken)) - 1
        self._p99_ns = int(np.partition(taken, rank)[rank])
        if self._count < RENEWED:  # the first answers may be to smaller requests than the warm-up's
            self._p99_ns = max(self._p99_ns, self._warm_up_ns)
        self._due = self._count + min(self._count, RENEWED)
