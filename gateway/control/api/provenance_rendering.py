"""Says where versions come from, without waiting for the disk."""

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from gateway.backends.provenance import Provenance, read_provenance
from gateway.backends.repository import Repository
from gateway.version_key import VersionKey

REFRESH_S: Final = 60.0  # a version never changes, but what is said of it may be added later
PATIENCE_S: Final = 0.2  # so that the first page of a gateway whose disk is well shows all
ProvenanceOf = Callable[[str, int], Provenance]  # by model and version


def no_provenance(model: str, version: int) -> Provenance:
    """Know nothing of where versions come from."""
    return Provenance()


class ProvenanceCache:
    """The provenance of versions, read again once it is REFRESH_S old. `clock`: monotonic seconds; `read`: of a folder;
    `set_priority`: called in the thread that reads.

    That thread reads only, so that no page waits for a disk that is slow or hangs: a page shows what is known when it
    is made. Only versions of which nothing is known are waited for, for PATIENCE_S in each REFRESH_S.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        clock: Callable[[], float] = time.monotonic,
        read: Callable[[Path], Provenance] = read_provenance,
        set_priority: Callable[[], None] = lambda: None,
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._read = read
        self._set_priority = set_priority
        self._known: dict[VersionKey, tuple[float, Provenance]] = {}
        self._reading: dict[VersionKey, threading.Event] = {}  # set once it has been read
        self._to_read: SimpleQueue[VersionKey] = SimpleQueue()
        self._impatient_from_s = -math.inf
        self._started = False

    def of(self, name: str, version: int) -> Provenance:
        """The provenance of a version as far as it is known; for one thread."""
        key, now_s = (name, version), self._clock()
        done = self._reading.get(key)  # before what is known: the thread changes that first
        read_s, found = self._known.get(key, (-math.inf, Provenance()))
        if now_s - read_s < REFRESH_S:
            return found
        if done is None:
            done = self._reading[key] = threading.Event()
            self._to_read.put(key)
            self._start()
        if key not in self._known:
            if now_s >= self._impatient_from_s + REFRESH_S:
                self._impatient_from_s = now_s + PATIENCE_S
            done.wait(max(0.0, self._impatient_from_s - now_s))
        return self._known.get(key, (now_s, found))[1]

    def _start(self) -> None:
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, name="provenance", daemon=True).start()  # no exit waits for the disk

    def _run(self) -> None:
        self._set_priority()
        while True:
            key = self._to_read.get()
            began_s = self._clock()
            self._known[key] = began_s, self._read(self._repository.folder_of(*key))
            self._reading.pop(key).set()
