"""Trips of breakers in the state folder, each kept by the worker that tripped, until control has decided on it.

The switchboard tells control sooner. But where control is dead, and the machine or container ends before there is
another one, the board ends with them: then these files are what is left.

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
    """A worker has stopped a candidate, for what its breaker has `found`."""

    model: str
    version: int
    worker: int
    found: str


def keep_trip(state: Path, trip: Trip, holds: Callable[[], bool]) -> threading.Thread:
    """Write it in a thread: no prediction waits for a disk. `holds`: whether its epoch has not ended meanwhile."""
    thread = threading.Thread(target=_keep, args=(state, trip, holds), name="trip", daemon=True)
    thread.start()
    return thread


def kept_trips(state: Path) -> list[Trip]:
    """Those that control has not decided on, as far as it is known here."""
    return [trip for path in sorted((state / FOLDER).glob("*.json")) if (trip := _read(path)) is not None]


def forget_trip(state: Path, model: str, version: int) -> None:
    """It has been decided on, and the disk knows."""
    with contextlib.suppress(OSError):
        _path(state, model, version).unlink(missing_ok=True)


def _keep(state: Path, trip: Trip, holds: Callable[[], bool]) -> None:
    path = _path(state, trip.model, trip.version)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        replace_durably(path, json.dumps(asdict(trip)).encode(), path.with_name(f"{path.name}.{trip.worker}"))
    except OSError as error:
        log.error("%s cannot be written; control hears of the trip by memory alone: %s", path, error.strerror)
    if not holds():
        forget_trip(state, trip.model, trip.version)


def _read(path: Path) -> Trip | None:
    try:
        trip = Trip(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        log.error("%s cannot be read, so the candidate that it stops is not known: %s", path, error)
        return None
    sound = isinstance(trip.model, str) and type(trip.version) is int and isinstance(trip.found, str)
    return trip if sound else None


def _path(state: Path, model: str, version: int) -> Path:
    """By a hash: a model's name may be as long as a file's."""
    digest = hashlib.blake2b(f"{model}\0{version}".encode(), digest_size=16).hexdigest()
    return state / FOLDER / f"{digest}.json"
