"""This host's releases as the fleet sees them: applies its stops and resumes here, and names releases for it.

A release is named `model/version` in the fleet, whatever the hosts' files hold: a stop of version 2 is one of every
version 2. Here a release is stopped or not (`DecisionLog`); there it has epochs. Both agree after each `sync`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gateway.control.fleet.host import HostState
from gateway.control.fleet.store_state import FIRST, NO_NOTES, Note, Word, Words
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.version_key import VersionKey

BY_FLEET: Final = "fleet"  # where no note says who it was
STOP: Final = "stop"
RESUME: Final = "resume"
EPOCH: Final = "fleet_epoch"  # in a decision's evidence
Act = Callable[[str, int, str, str, dict[str, Any]], ReleaseDecision]


def release_name(model: str, version: int) -> str:
    """The release's name in the fleet."""
    return f"{model}/{version}"


def release_key(release: str) -> VersionKey | None:
    """The model and version of a name; None if it is none."""
    model, _, version = release.rpartition("/")
    return (model, int(version)) if model and version.isascii() and version.isdigit() else None


class FleetReleases:
    """`stop`, `resume`: change a release here, with a decision by whom and why, whether or not it is served now."""

    def __init__(self, decision_log: DecisionLog, stop: Act, resume: Act) -> None:
        self._decision_log = decision_log
        self._stop = stop
        self._resume = resume
        self.syncing = False  # so that decisions made here are told apart from those to be brought to the fleet

    def sync(self, host: HostState, notes: Mapping[str, Note] = NO_NOTES) -> bool:
        """Stop and resume here what is stopped and resumed in the fleet; returns whether anything was stopped."""
        stopped = False
        self.syncing = True
        try:
            for release, word in host.words.items():
                key = release_key(release)
                if key is None:
                    continue
                wanted = word.stopped or release in host.stops
                if wanted == (self._decision_log.stopped(*key) is not None):
                    continue
                by, reason, evidence = _origin(STOP if wanted else RESUME, word, notes.get(release))
                (self._stop if wanted else self._resume)(*key, by, reason, evidence)
                stopped |= wanted
        finally:
            self.syncing = False
        return stopped

    def known_at_start(self, words: Words) -> tuple[Words, tuple[str, ...]]:
        """What a new process knows: the words that were kept, raised to what its decisions say; and the stops whose
        epoch is not known, since they were made without the fleet.
        """
        known, unknown = dict(words), []
        for key in self._decision_log.stopped_keys():
            release, decision = release_name(*key), self._decision_log.stopped(*key)
            word = known.get(release, FIRST)
            epoch = decision.evidence.get(EPOCH) if decision is not None else None
            if type(epoch) is int and epoch > 0:
                known[release] = Word(max(word.epoch, epoch), max(word.stop, epoch))
            elif not word.stopped:
                unknown.append(release)
        return known, tuple(unknown)

    def stopped_candidates(self) -> Iterator[VersionKey]:
        """All releases that are stopped here."""
        yield from self._decision_log.stopped_keys()


def _origin(action: str, word: Word, note: Note | None) -> tuple[str, str, dict[str, Any]]:
    evidence: dict[str, Any] = {EPOCH: word.stop if action == STOP else word.epoch}
    if note is None or note.action != action:
        return BY_FLEET, f"{'stopped' if action == STOP else 'resumed'} on another host", evidence
    return note.by, note.reason, evidence | {"fleet_host": note.host}
