"""How many requests a host has counted in the fleet's store from one tick to the next, at most."""

import logging
from typing import Final

MOST_COUNTS: Final = 64  # from one tick to the next: control runs before all workers
CALM_NS: Final = 60_000_000_000  # without an overflow: then the next one is logged
log: Final = logging.getLogger("gateway.control.fleet")


class CountBudget:
    """`counted`: requests that were passed on to the store; `overflows`: how often there were more than MOST_COUNTS, so
    that shares held until the next tick. Both since the start.
    """

    def __init__(self) -> None:
        self._left = 0
        self._calm_ns = 0  # from then on an overflow is logged
        self.counted = 0
        self.overflows = 0

    def renew(self) -> None:
        """At each tick."""
        self._left = MOST_COUNTS

    def take(self, now_ns: int) -> bool:
        """Whether one more request may be counted. `now_ns`: of any clock that goes on."""
        if self._left:
            self._left -= 1
            self.counted += 1
            return True
        self.overflows += 1
        if now_ns >= self._calm_ns:
            log.warning(
                "fleet: more than %d requests of small rate limits came in a quarter of a second: for the rest of it"
                " this host admits its share of these limits; gateway_fleet_rate_count_overflows_total says how often",
                MOST_COUNTS,
            )
        self._calm_ns = now_ns + CALM_NS
        return False
