"""The switch of a release that no one can stop."""

from typing import Final

from gateway.shm.switchboard import FIRST_EPOCH, Turn


class OpenSwitch:
    """There is no candidate, or no control process."""

    __slots__ = ()
    epoch: Final = FIRST_EPOCH
    slot: Final = -1

    def on_weights_changed(self, turn: "Turn", live_routes: int) -> None:
        return None

    def stopped(self, now_ns: int) -> bool:
        return False

    def trip(self, epoch: int, found: str = "") -> None:
        return None
