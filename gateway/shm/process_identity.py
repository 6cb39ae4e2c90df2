"""Identifies a process by its pid and start time, since a pid may be reused."""

from pathlib import Path
from typing import Final

UNKNOWN: Final = -1
ENDED: Final = frozenset("ZXx")  # states of /proc/PID/stat


def start_ticks(pid: int) -> int:
    """Return when the process started, in clock ticks since boot; UNKNOWN if it is not running or there is no /proc.

    A zombie counts as not running: in a container whose first process does not reap orphans, zombies stay for ever.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return UNKNOWN if fields[0] in ENDED else int(fields[19])
    except (OSError, IndexError, ValueError):
        return UNKNOWN
