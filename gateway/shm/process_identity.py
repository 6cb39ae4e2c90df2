"""Identifies a process by its pid and start time, since a pid may be reused."""

from pathlib import Path
from typing import Final, NamedTuple

UNKNOWN: Final = -1
ENDED: Final = frozenset("ZXx")  # states of /proc/PID/stat


class Status(NamedTuple):
    """What /proc says of a process. `started`: in clock ticks since boot."""

    ended: bool
    parent: int
    started: int


def status(pid: int) -> Status:
    """Return a process's status. Raises FileNotFoundError or ProcessLookupError if it is gone, or there is no /proc;
    OSError if it cannot be read, such as for lack of descriptors.

    A zombie has ended: in a container whose first process does not reap orphans, zombies stay for ever.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Status(fields[0] in ENDED, int(fields[1]), int(fields[19]))


def start_ticks(pid: int) -> int:
    """Return when the process started, in clock ticks since boot; UNKNOWN if it is not running or there is no /proc."""
    try:
        found = status(pid)
    except (OSError, IndexError, ValueError):
        return UNKNOWN
    return UNKNOWN if found.ended else found.started
