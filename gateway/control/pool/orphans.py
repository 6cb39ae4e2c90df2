"""Orphans: workers left behind by a killed control process, found through a file in the state folder."""

import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import orjson

from gateway.shm.process_identity import start_ticks
from gateway.system.durable_files import replace_durably

log: Final = logging.getLogger("gateway.control.pool")


class OrphanedWorkers:
    """The surviving workers of a killed control process. They serve stable until the new workers are ready. `file`: the
    list of process ids and start times.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found = [(pid, birth) for pid, birth in _read(file) if 0 < birth == start_ticks(pid)]

    def __len__(self) -> int:
        return len(self._found)

    def keep_if_mapped(self, memory: str) -> None:
        """Keep only those that have mapped `memory`. The others belong to the gateway from whose state folder this one
        was copied, and must not be ended.
        """
        self._found = [(pid, birth) for pid, birth in self._found if _has_mapped(pid, memory)]

    def terminate(self) -> None:
        """Send them SIGTERM: they drain and end."""
        for pid, birth in self._found:
            if start_ticks(pid) == birth:
                os.kill(pid, signal.SIGTERM)
        self._found = []

    def write(self, pids: Iterable[int]) -> None:
        """Write to the file the processes that a kill would orphan now: `pids`, and orphans not released yet."""
        known = orjson.dumps([*self._found, *((pid, start_ticks(pid)) for pid in pids)])
        try:
            replace_durably(self._file, known, self._file.with_suffix(".new"))
        except OSError as error:
            log.error(
                "%s cannot be written; should the control process be killed, end its workers by hand: %s",
                self._file,
                error,
            )


def _has_mapped(pid: int, memory: str) -> bool:
    """Whether the process has mapped memory files of that name."""
    try:
        return f"/{memory}." in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def _read(file: Path) -> list[tuple[int, int]]:
    try:
        return [(int(pid), int(birth)) for pid, birth in orjson.loads(file.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, OverflowError) as error:
        log.error(
            "%s is damaged (%s), so workers left by a killed gateway are not found; end them by hand", file, error
        )
        return []
