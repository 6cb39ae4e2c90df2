"""Stopping a model: finds every candidate that may still answer, and stops it, whatever edit is in progress.

After a stop has returned, no answer comes from any candidate of that model until a resume. These may answer:

    in force     the candidate in control's view, which is updated before any worker is told of a change
    leaving      one that a worker still serves because it is busy and has not switched yet, or that is finishing a run
    coming       the candidate of an edit that is being tried or applied, or that control has not read yet
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.control.config.file_snapshot import FileStat, Snapshot
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.errors import Conflict
from gateway.messages import ConfigGeneration
from gateway.settings.routing import ReleaseSettings
from gateway.shm.slots import Slots
from gateway.shm.switchboard import Switchboard

UNKNOWN_STAT: Final = FileStat(
    -1, -1, -1
)  # a file whose standing could not be read in time: matches whatever is read next
log: Final = logging.getLogger("gateway.control")
Releases = Mapping[str, ReleaseSettings]


@dataclass(frozen=True, slots=True)
class StopSnapshot:
    """The last stop of each model at the time when reading an edit began."""

    stops: Mapping[str, ReleaseDecision]


class CandidateStopper:
    """Stops candidates: first on the switchboard, then in the decision log. Runs on control's loop; never waits.

    `generations`: returns the generations of all live workers and the one that a new worker would get.
    """

    def __init__(
        self,
        board: Switchboard,
        releases: Slots,
        stops: DecisionLog,
        generations: Callable[[], Iterable[ConfigGeneration]],
    ) -> None:
        self._board = board
        self._releases = releases
        self._decision_log = stops
        self._generations = generations
        self.known_of: Callable[[str], dict[str, Any]] = lambda name: {}  # by model, for the record
        self._edit_releases: Releases = {}
        self._last_stops: dict[str, ReleaseDecision] = {}  # the last stop of each model by name, until it is resumed
        self._unread: dict[str, FileStat] = {}  # of the routing file at that stop, if it held an unread edit

    def stop(self, name: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Stop this candidate unless it is already stopped; returns the decision in force."""
        self._board.stop(self._releases.of(name, candidate))
        if (already := self._decision_log.stopped(name, candidate)) is not None:
            return already
        decision = self._decision_log.stop(name, candidate, by, reason, self._known_of(name) | evidence)
        log.warning("candidate %d of '%s' is stopped by %s: %s", candidate, name, by, reason)
        return decision

    def _known_of(self, name: str) -> dict[str, Any]:
        """What is known of the candidate, for the record; whatever happens, it must not keep a stop from being made."""
        try:
            return self.known_of(name)
        except Exception:
            log.exception("what is known of the candidate of '%s' is left out of the record of its stop", name)
            return {}

    def stop_model(
        self, name: str, view: ReleaseSettings | None, by: str, reason: str, evidence: dict[str, Any]
    ) -> list[ReleaseDecision]:
        """Stop every candidate of the model that may answer, the view's first; raises Conflict if there is none."""
        candidates = self._candidates(name, view)
        if not candidates:
            raise Conflict(f"'{name}' has no candidate; stable answers every request")
        decisions = [self.stop(name, candidate, by, reason, evidence) for candidate in candidates]
        self._last_stops[name] = ReleaseDecision(
            time_ns=decisions[0].time_ns,
            model=name,
            candidate=candidates[0],
            action="stop",
            by=by,
            reason=reason,
            evidence=evidence,
        )
        return decisions

    def resumed(self, name: str) -> None:
        """The model was resumed: its last stop no longer applies to candidates of edits."""
        self._last_stops.pop(name, None)
        self._unread.pop(name, None)

    def record_unread_file(self, name: str, standing: FileStat) -> None:
        """Record that, when the model was stopped, the routing file was not the one read last, but this one."""
        if name in self._last_stops:
            self._unread[name] = standing

    def snapshot(self) -> StopSnapshot:
        """Call before reading an edit; pass the result to `edit_validated`."""
        return StopSnapshot(dict(self._last_stops))

    def edit_validated(self, began: StopSnapshot, now: Snapshot, coming: Releases) -> None:
        """Call once the edit is validated. From now on a stop also stops its candidates; those of models stopped since
        `snapshot`, or stopped while this very text was unread, are stopped at once.
        """
        self._edit_releases = coming
        unread, self._unread = self._unread, {}
        for name, order in self._last_stops.items():
            release = coming.get(name)
            under_way = began.stops.get(name) is not order or unread.get(name) in (UNKNOWN_STAT, now.stat)
            if under_way and release is not None and release.candidate is not None:
                self.stop(name, release.candidate, order.by, f"{order.reason} (its edit was under way)", order.evidence)

    def edit_finished(self) -> None:
        """Call when the edit is applied or refused: none is in progress any more."""
        self._edit_releases = {}

    def _candidates(self, name: str, view: ReleaseSettings | None) -> list[int]:
        """The candidates that may answer, the view's first. A version that is stable by now
        is left out: it may answer.
        """
        coming = self._edit_releases.get(name)
        first = [release.candidate for release in (view, coming) if release is not None and release.candidate]
        generations = {id(config): config for config in self._generations()}  # most workers share one
        versions = sorted(self._releases.versions_of(name).items())  # of all generations
        other = [
            version
            for version, slot in versions
            if self._board.held(slot) or any((name, version) in config.releases for config in generations.values())
        ]
        stable = None if view is None else view.stable
        return list(dict.fromkeys(one for one in (*first, *other) if one != stable))
