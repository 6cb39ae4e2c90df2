"""Turns trips of workers' circuit breakers into stops of the whole release, each with a decision, at each tick."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.control.release.inherited_stops import BY_BREAKER, InheritedStops, reason_of
from gateway.records.trips import delete_trip
from gateway.settings.guards import GuardsSettings
from gateway.settings.routing import ReleaseSettings
from gateway.shm.slots import Slots
from gateway.shm.switchboard import Switchboard
from gateway.shm.tally import TRIPS, UNANSWERED

StopNow = Callable[[str, int, str, str, dict[str, Any]], ReleaseDecision]
Served = Mapping[str, ReleaseSettings]


class TripHandler:
    """Watches for breaker trips: of this run on the switchboard, and of the previous run through `inherited`.

    `stop` stops a release that is in service, as a person would.
    """

    def __init__(
        self,
        state: Path,
        board: Switchboard,
        releases: Slots,
        decision_log: DecisionLog,
        inherited: InheritedStops,
        stop: StopNow,
    ) -> None:
        self._state = state
        self._board = board
        self._releases = releases
        self._decision_log = decision_log
        self._inherited = inherited
        self._stop = stop

    def tick(self, served: Served) -> None:
        """Record and stop every release tripped since the last tick. `served`: the releases in service now."""
        for one in self._inherited.poll():
            self._decide(served, one.model, one.version, *reason_of(one))
        for slot in self._board.tripped():
            key = self._releases.name_of(slot)
            if key is not None and _serves(served, *key):
                worker = self._board.tripped_by(slot)[0]
                self._decide(served, *key, BY_BREAKER, self._found(served[key[0]], slot, worker), {"worker": worker})

    def forget(self, name: str, candidate: int) -> None:
        """Delete the workers' trip files of a release once the decision that covers them is on disk."""
        self._decision_log.run_after_sync(lambda: delete_trip(self._state, name, candidate))

    def _decide(
        self, served: Served, name: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]
    ) -> None:
        if self._decision_log.stopped(name, candidate) is not None:
            return
        stop = self._stop if _serves(served, name, candidate) else self._decision_log.stop
        stop(name, candidate, by, reason, evidence)
        self.forget(name, candidate)

    def _found(self, settings: ReleaseSettings, slot: int, worker: int) -> str:
        """The reason of the worker's breaker, in words."""
        found = TRIPS[self._board.words[self._board.names.found_word(slot, worker)]] or TRIPS[1]
        limit = (settings.guards or GuardsSettings()).breaker.consecutive_failures
        return f"{limit if found == TRIPS[1] else UNANSWERED} {found}"


def _serves(served: Served, name: str, candidate: int) -> bool:
    return name in served and served[name].candidate == candidate
