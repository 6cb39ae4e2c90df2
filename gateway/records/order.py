"""Which of several records was made first, on one machine: by a clock that no one sets.

"order": [boot, ns]     the machine's start, and the monotonic clock, which counts from there
"""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

ORDER: Final = "order"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def _boot() -> str:
    try:
        return _BOOT_ID.read_text()[:8]
    except OSError:
        return ""


_BOOT: Final = _boot()


def stamp() -> tuple[str, int]:
    """Now."""
    return _BOOT, monotonic_ns()


def in_order(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records in the order in which they were made; `records` are in that of their writing.

    Those of one start of a machine by its monotonic clock; starts in the order of their first record. Records of an
    older gateway have no order: among them the time tells.
    """
    starts: dict[str, int] = {}
    keys = []
    for record in records:
        boot, ns = _order_of(record)
        keys.append((starts.setdefault(boot, len(starts)), ns))
    return [record for _, record in sorted(zip(keys, records, strict=True), key=lambda pair: pair[0])]


def _order_of(record: dict[str, Any]) -> tuple[str, int]:
    match record.get(ORDER):
        case [str(boot), int(ns)]:
            return boot, ns
    return "", int(record["time_ns"])
