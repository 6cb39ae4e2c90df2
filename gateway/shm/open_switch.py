"""A Switch that is never stopped, for releases without a candidate."""

from typing import Final

from gateway.shm.switch import OnWeights
from gateway.shm.switchboard import FIRST_EPOCH


class OpenSwitch:
    """Has the interface of `switch.Switch`, is never stopped, and ignores trips and weights."""

    __slots__ = ()
    epoch: Final = FIRST_EPOCH
    slot: Final = -1

    def on_weights_changed(self, on_weights: "OnWeights", live_routes: int) -> None:
        """Do nothing: there are no live weights."""
        return None

    def stopped(self, now_ns: int) -> bool:
        """Return False."""
        return False

    def lapsed(self, now_ns: int) -> bool:
        """Return False."""
        return False

    def trip(self, epoch: int, found: str = "") -> None:
        """Do nothing: there is nothing to stop."""
        return None
