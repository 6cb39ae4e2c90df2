"""Which process is meant: a pid alone may have been given to another since."""

from pathlib import Path
from typing import Final

UNKNOWN: Final = -1


def born(pid: int) -> int:
    """When the process started, in clock ticks since boot; UNKNOWN where there is none, or no /proc."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return UNKNOWN
