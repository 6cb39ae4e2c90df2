"""Keeps the last room on a disk for others: what control asks for is written beside the records and decisions."""

import os
from pathlib import Path
from typing import Final

from gateway.errors import NotReady
from gateway.offline.reader import OnProgress

MIN_FREE_BYTES: Final = 256 << 20
CHECK_BYTES: Final = 1 << 20  # read between two checks


def check_space(folder: Path) -> None:
    """Raise NotReady if too little of the folder's disk is free."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < MIN_FREE_BYTES:
        raise NotReady(
            f"{free >> 20} MiB are free on the disk of the gateway's state folder, and {MIN_FREE_BYTES >> 20} MiB are"
            " kept for its records: choose a shorter period, or make room"
        )


def checking_space(folder: Path) -> OnProgress:
    """A progress callback that raises as `check_space` does."""
    since_check = 0

    def passed(size: int) -> None:
        nonlocal since_check
        since_check += size
        if since_check >= CHECK_BYTES:
            since_check = 0
            check_space(folder)

    return passed
