"""The switchboard's clock: monotonic time that also counts the time during which the machine was suspended.

Monotonic time stands still then, but the leases that other hosts wait for do not. Both agree until the machine is
suspended while the board exists.
"""

import time
from typing import Final

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS has none


def suspended_ns() -> int:
    """How long the machine has been suspended since its boot, in ns."""
    return time.clock_gettime_ns(_BOOTTIME) - time.monotonic_ns()


class BoardClock:
    """`suspended_before_ns`: what `suspended_ns` was when the board was created."""

    __slots__ = ("_suspended_before_ns",)

    def __init__(self, suspended_before_ns: int) -> None:
        self._suspended_before_ns = suspended_before_ns

    def now_ns(self) -> int:
        """The present time in ns."""
        return time.clock_gettime_ns(_BOOTTIME) - self._suspended_before_ns
