"""Which process is meant: a pid alone may have been given to another since."""

from pathlib import Path
from typing import Final

UNKNOWN: Final = -1
ENDED: Final = frozenset("ZXx")  # states of /proc/PID/stat


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot; UNKNOWN where there is none, or no /proc.

    One that has ended and was not waited for is none: in a container whose first process does not care for orphans,
    they stay so for ever.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return UNKNOWN if fields[0] in ENDED else int(fields[19])
    except (OSError, IndexError, ValueError):
        return UNKNOWN
