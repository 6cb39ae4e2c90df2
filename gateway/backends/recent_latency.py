"""The recent latency of a stable version, time in the queue included: the 99th percentile of its last answers."""

import math
from collections import deque
from typing import Final

import numpy as np

MAX_SAMPLES: Final = 1000  # answers
MIN_SAMPLES: Final = 100  # for a 99th percentile
QUANTILE: Final = 0.99


class RecentLatency:
    """The latencies of one version in one worker. `warm_up_us`: measured by its warm-up, NaN if the model did not run.

    Call `add` with each answer's latency in ns. `p99_ns`, as of the last `update_p99`, is the 99th percentile of the
    last answers, however old; the warm-up's latency if there are none; 0 if nothing is known.
    """

    __slots__ = ("_samples", "_warm_up_ns", "add", "p99_ns")

    def __init__(self, warm_up_us: float) -> None:
        self._warm_up_ns = self.p99_ns = int(warm_up_us * 1000) if math.isfinite(warm_up_us) else 0
        self._samples: deque[int] = deque(maxlen=MAX_SAMPLES)
        self.add = self._samples.append

    def update_p99(self) -> None:
        """Recompute `p99_ns`, which takes about 15 us."""
        count = len(self._samples)
        if not count:
            return
        taken = np.fromiter(self._samples, np.int64, count)
        rank = math.ceil(QUANTILE * count) - 1
        self.p99_ns = int(np.partition(taken, rank)[rank])
        if count < MIN_SAMPLES:  # the first answers may be to smaller requests than the warm-up's
            self.p99_ns = max(self.p99_ns, self._warm_up_ns)
