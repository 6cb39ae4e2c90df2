"""Breaker trips as files in the state folder. The worker that tripped writes one; control deletes it once it has
recorded its decision.

Control normally learns of a trip from the switchboard. The files matter if control is dead and the machine or container
ends before a new control process starts, because the switchboard is in memory only.

    STATE/trips/HASH.json   {model, version, worker, found}
"""

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gateway.system.durable_files import replace_durably

FOLDER: Final = "trips"
log: Final = logging.getLogger("gateway.records")


@dataclass(frozen=True, slots=True)
class Trip:
    """A worker's breaker has stopped a candidate. `found`: the reason, in words."""

    model: str
    version: int
    worker: int
    found: str


def save_trip(state: Path, trip: Trip, holds: Callable[[], bool]) -> threading.Thread:
    """Write the trip on a thread, so that no prediction waits for the disk.

    `holds`: whether the epoch of the trip is still current; if it has ended meanwhile, the file is deleted again.
    """
    thread = threading.Thread(target=_keep, args=(state, trip, holds), name="trip", daemon=True)
    thread.start()
    return thread


def load_trips(state: Path) -> list[Trip]:
    """Read the trips on disk: those that control has not decided on, or whose deletion was lost. Damaged files are
    logged and skipped.
    """
    return [trip for path in sorted((state / FOLDER).glob("*.json")) if (trip := _read(path)) is not None]


def delete_trip(state: Path, model: str, version: int) -> None:
    """Delete a trip, once control's decision on it is on disk."""
    with contextlib.suppress(OSError):
        _path(state, model, version).unlink(missing_ok=True)


def _keep(state: Path, trip: Trip, holds: Callable[[], bool]) -> None:
    path = _path(state, trip.model, trip.version)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        replace_durably(path, json.dumps(asdict(trip)).encode(), path.with_name(f"{path.name}.{trip.worker}"))
    except OSError as error:
        log.error(
            "%s cannot be written; until control records it, the breaker's stop is only in memory: %s",
            path,
            error.strerror,
        )
    if not holds():
        delete_trip(state, trip.model, trip.version)


def _read(path: Path) -> Trip | None:
    try:
        trip = Trip(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        log.error("%s cannot be read, so the candidate that a breaker had stopped is not known: %s", path, error)
        return None
    sound = isinstance(trip.model, str) and type(trip.version) is int and isinstance(trip.found, str)
    return trip if sound else None


def _path(state: Path, model: str, version: int) -> Path:
    """The file is named by a hash, because a model's name may be as long as the longest file name."""
    digest = hashlib.blake2b(f"{model}\0{version}".encode(), digest_size=16).hexdigest()
    return state / FOLDER / f"{digest}.json"
