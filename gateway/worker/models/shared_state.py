"""The counters of versions and the stop switches of releases, in memory shared with control."""

import contextlib
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from gateway.errors import ModelUnavailable
from gateway.shm.open_switch import OpenSwitch
from gateway.shm.owner import measured_path
from gateway.shm.scoreboard import LOADING, Scoreboard
from gateway.shm.switch import Gate, Switch
from gateway.shm.switchboard import Switchboard
from gateway.shm.tally import HELD, Tally, Totals
from gateway.version_key import VersionKey

OnTrip = Callable[
    [str, int, str, Callable[[], bool]], None
]  # called on a trip: model, candidate, reason, whether it is still valid


class SharedState:
    """The state of one worker. `versions` and `releases`: their slots on the scoreboard and on the switchboard.

    `measurements_path`: the file in which workers share what they measure of versions. `start_fraction`: where in a
    list that all workers go through this worker begins, as a fraction of the list's length.

    Control reuses a slot only once no object of this worker uses it. The worker counts these objects in shared memory;
    call `release_ended` regularly to subtract those that have ended.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        scoreboard: Scoreboard,
        worker: int,
        *,
        heartbeat_timeout_ns: int,
        versions: Mapping[VersionKey, int],
        releases: Mapping[VersionKey, int],
        on_trip: OnTrip,
    ) -> None:
        self._switchboard = switchboard
        self._scoreboard = scoreboard
        self._worker = worker
        self.measurements_path = measured_path(scoreboard.segment.path)
        self.start_fraction = worker / scoreboard.workers
        self._heartbeat_timeout_ns = heartbeat_timeout_ns
        self._versions = versions
        self._releases = releases
        self._on_trip = on_trip
        self._slots = dict(versions)  # including versions kept because their successor does not load
        self._ended: deque[tuple[memoryview[int], int]] = deque()  # by the thread that drops the last reference
        self.head = scoreboard.head(worker)
        self.gate = Gate(switchboard, worker, self.head)

    def update_slots(self, versions: Mapping[VersionKey, int], releases: Mapping[VersionKey, int]) -> None:
        """Use the slots of a new configuration. Versions and releases that it no longer has may lose theirs."""
        self._versions = versions
        self._releases = releases
        given = set(versions.values())
        self._slots = {key: slot for key, slot in self._slots.items() if slot not in given} | dict(versions)

    def tally(self, name: str, version: int) -> Tally:
        """The tally on which a version counts. Raises ModelUnavailable if it has no slot."""
        if (name, version) not in self._versions:
            raise ModelUnavailable(f"version {version} of '{name}' was added while the configuration was being loaded")
        words = self._scoreboard.words(self._worker, self._versions[name, version])
        tally = Tally(words)
        self._hold(tally, words, HELD)
        return tally

    def switch(self, name: str, candidate: int | None) -> Switch | OpenSwitch:
        """The switch that stops the release of `candidate`; always open if it is None."""
        if candidate is None:
            return OpenSwitch()
        slot = self._releases[name, candidate]
        on_trip = partial(self._on_trip, name, candidate)
        switch = Switch(self._switchboard, slot, self._worker, self._heartbeat_timeout_ns, on_trip)
        self._hold(switch, self._switchboard.words, self._switchboard.held_word(slot, self._worker))
        return switch

    @contextlib.contextmanager
    def loading(self, name: str, version: int) -> Iterator[None]:
        """Show in shared memory what is being loaded: control sees it if the process dies or hangs. One at a time."""
        self.head[LOADING] = self._versions.get((name, version), -1) + 1
        try:
            yield
        finally:
            self.head[LOADING] = 0

    def release_ended(self) -> None:
        """Subtract ended objects from the counts. Call it on the thread that makes tallies and switches."""
        while self._ended:
            words, index = self._ended.popleft()
            words[index] -= 1

    def serving(self) -> bool:
        """Whether all workers listen."""
        return self._switchboard.serving

    def totals(self, name: str, version: int) -> tuple[Totals, int]:
        """What all workers have counted for a version, and when the last of them answered (monotonic ns; 0: never)."""
        slot = self._slots[name, version]
        return self._scoreboard.totals(slot), self._scoreboard.last_success_ns(slot)

    def _hold(self, user: Tally | Switch, words: "memoryview[int]", index: int) -> None:
        words[index] += 1
        weakref.finalize(user, self._ended.append, (words, index)).atexit = False
