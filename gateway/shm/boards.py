"""The boards in shared memory with their slots, as the control process hands them on."""

from dataclasses import dataclass

from gateway.shm.scoreboard import Scoreboard
from gateway.shm.slots import Slots
from gateway.shm.switchboard import Switchboard


@dataclass(frozen=True, slots=True)
class Boards:
    """`versions` and `releases` give the slots of the scoreboard and of the switchboard."""

    switchboard: Switchboard
    scoreboard: Scoreboard
    versions: Slots
    releases: Slots
