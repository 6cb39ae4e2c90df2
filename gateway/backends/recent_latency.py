"""How long a stable version takes to answer, queue included: the 99th percentile of its last answers."""

import math
from collections import deque
from typing import Final

import numpy as np

KEPT: Final = 1000  # answers
ENOUGH: Final = 100  # for a 99th percentile
SHARE: Final = 0.99


class Pace:
    """Of one version in one worker. `warm_up_us`: what its warm-up measured, NaN where it could not run.

    `add` is told of each answer, in ns. `p99_ns`, as of the last `renew`, is of the last answers, however old, of the
    warm-up where there are none, and 0 where nothing is known.
    """

    __slots__ = ("_taken", "_warm_up_ns", "add", "p99_ns")

    def __init__(self, warm_up_us: float) -> None:
        self._warm_up_ns = self.p99_ns = int(warm_up_us * 1000) if math.isfinite(warm_up_us) else 0
        self._taken: deque[int] = deque(maxlen=KEPT)
        self.add = self._taken.append

    def renew(self) -> None:
        """Work `p99_ns` out anew: some 15 us."""
        count = len(self._taken)
        if not count:
            return
        taken = np.fromiter(self._taken, np.int64, count)
        rank = math.ceil(SHARE * count) - 1
        self.p99_ns = int(np.partition(taken, rank)[rank])
        if count < ENOUGH:  # the first answers may be to smaller requests than the warm-up's
            self.p99_ns = max(self.p99_ns, self._warm_up_ns)
