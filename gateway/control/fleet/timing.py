"""The fleet's time constants, and how long to wait until another host's lease has surely ended."""

from dataclasses import dataclass, field
from typing import Final

RATE_ERROR_PPM: Final = 1000  # most by which two hosts' clocks differ in rate
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Timing:
    """`lease_ns`: how long after it last began a successful exchange a host may send candidate answers.

    `rate_error_ppm`: the most by which the rates of two clocks differ. `margin_ns`: what a send may take from its look
    at the lease on. `longest_ns`: once so much time has passed on one host's clock, a lease that another host held at
    its beginning has ended.
    """

    lease_ns: int
    margin_ns: int
    rate_error_ppm: int = RATE_ERROR_PPM
    longest_ns: int = field(init=False)

    def __post_init__(self) -> None:
        drift_ns = -(-self.lease_ns * self.rate_error_ppm // MILLION)
        object.__setattr__(self, "longest_ns", self.lease_ns + drift_ns + self.margin_ns)
