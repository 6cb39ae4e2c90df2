"""The history of the routing file: previous texts, kept in a folder under the name in a decision's `kept`."""

import contextlib
import re
import time
from pathlib import Path
from typing import Final

from gateway.control.config.file_snapshot import revision_of
from gateway.control.config.yaml_edit import difference
from gateway.system.durable_files import replace_durably

MAX_TEXTS: Final = 1000  # texts; beyond that the oldest are removed
_NUMBERED: Final = re.compile(r"routing-[0-9]{8}T[0-9]{6}Z-([0-9]{6,})-[^-]+\.yaml")
_LONG: Final = 1 << 19  # bytes of both texts: comparing more would block control
_SHOWN: Final = 1 << 16  # characters of a difference


class RoutingHistory:
    """The history's folder, created when the first text is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, content: bytes) -> Path:
        """Save the text and return its path; removes the oldest beyond KEPT. Raises OSError."""
        there = sorted(self.folder.glob("routing-*.yaml"), key=_place)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        number = _place(there[-1])[0] + 1 if there else 1
        kept = self.folder / f"routing-{stamp}-{number:06}-{revision_of(content)}.yaml"
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_durably(kept, content, self.folder / "unfinished")
        for old in there[: max(0, len(there) + 1 - MAX_TEXTS)]:
            with contextlib.suppress(OSError):
                old.unlink()
        return kept


def _place(kept: Path) -> tuple[int, str]:
    """The sort key of a kept text: its number, independent of the clock. Files of older gateways have no number."""
    match = _NUMBERED.fullmatch(kept.name)
    return int(match[1]) if match else 0, kept.name


def shortened_diff(before: bytes, after: bytes, name: str) -> str:
    """A unified diff for people, shortened or replaced by a note if it is too long."""
    if len(before) + len(after) > _LONG:
        return f"the texts are too long to compare: {len(before):,} and {len(after):,} bytes\n"
    changes = difference(before.decode(errors="replace"), after.decode(errors="replace"), name)
    return changes if len(changes) <= _SHOWN else f"{changes[:_SHOWN]}\n… and {len(changes) - _SHOWN:,} characters\n"
