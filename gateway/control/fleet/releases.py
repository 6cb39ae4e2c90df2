"""This host's releases as the fleet sees them: applies its stops and resumes here, and names releases for it.

A release is named `model/version` in the fleet, whatever the hosts' files hold: a stop of version 2 is one of every
version 2. Here a release is stopped or not (`DecisionLog`); there it has epochs. Both agree after each `sync`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gateway.control.fleet.host import HostState
from gateway.control.fleet.memory import FleetMemory
from gateway.control.fleet.store_state import FIRST, Member, Note, Word, Words
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.control.release.trip_decisions import Served
from gateway.version_key import VersionKey

BY_FLEET: Final = "fleet"  # where no note says who it was
STOP: Final = "stop"
RESUME: Final = "resume"
LONGEST_VERSION: Final = 18  # digits: JSON holds no larger integer
Act = Callable[[str, int, str, str, dict[str, Any]], ReleaseDecision]


def release_name(model: str, version: int) -> str:
    """The release's name in the fleet."""
    return f"{model}/{version}"


def release_key(release: str) -> VersionKey | None:
    """The model and version of a name; None if it is none."""
    model, _, version = release.rpartition("/")
    known = model and version.isascii() and version.isdigit() and len(version) <= LONGEST_VERSION
    return (model, int(version)) if known else None


class FleetReleases:
    """`fleet`: the fleet's name. `served`: what is served here now. `stop`, `resume`: change a release here, with a
    decision by whom and why, whether or not it is served now.
    """

    def __init__(
        self, fleet: str, served: Callable[[], Served], decision_log: DecisionLog, stop: Act, resume: Act
    ) -> None:
        self._fleet = fleet
        self._served = served
        self._decision_log = decision_log
        self._stop = stop
        self._resume = resume
        self._epochs: dict[str, int] | None = None  # in force here, of each release that has a word; None: not synced
        self.syncing = False  # so that decisions made here are told apart from those to be brought to the fleet
        self.evidence: dict[str, dict[str, Any]] = {}  # of resumes made on this host, for their decisions

    @property
    def last_sequence(self) -> int:
        """Of the last decision of this host."""
        return self._decision_log.last_sequence

    def candidates(self) -> tuple[str, ...]:
        """The releases whose candidates this host serves."""
        served = self._served().items()
        return tuple(sorted(release_name(name, one.candidate) for name, one in served if one.candidate is not None))

    def to_stop(self, stopped: Iterable[VersionKey], members: Mapping[str, Member]) -> set[str]:
        """The releases stopped here, and other candidates of the same models on other hosts, but for versions that are
        stable here.
        """
        keys = set(stopped)
        models = {name for name, _ in keys}
        elsewhere = {release_key(release) for member in members.values() for release in member.candidates}
        served = self._served()
        for key in elsewhere:
            if key is not None and key[0] in models and (key[0] not in served or served[key[0]].stable != key[1]):
                keys.add(key)
        return {release_name(*key) for key in keys}

    def sync(self, host: HostState, notes: Mapping[str, Note]) -> bool:
        """Stop and resume here what is stopped and resumed in the fleet; returns whether anything was stopped. What was
        stopped and resumed in between is resumed too, since it is in a new epoch.
        """
        first, epochs = self._epochs is None, self._epochs or {}
        stopped = False
        self.syncing = True
        try:
            for release in [*host.words, *(host.stops.keys() - host.words.keys())]:
                key, word = release_key(release), host.words.get(release, FIRST)
                if key is None:
                    continue
                wanted = word.stopped or release in host.stops
                began = not first and word.epoch > epochs.get(release, FIRST.epoch) and not wanted
                epochs[release] = word.epoch if not wanted else epochs.get(release, word.epoch if first else 1)
                if wanted != (self._decision_log.stopped(*key) is not None) or began:
                    self._act(key, release, word, notes.get(release), stop=wanted)
                    stopped |= wanted
            self._epochs = epochs
        finally:
            self.syncing = False
        return stopped

    def known_at_start(self, memory: FleetMemory) -> tuple[Words, tuple[str, ...]]:
        """What a new process knows: the words that were kept, raised to what its decisions say; and the stops that are
        for whichever epoch is current, since theirs is not known.
        """
        known, unknown = dict(memory.words), set(memory.stops)
        for key in self._decision_log.stopped_keys():
            release, decision = release_name(*key), self._decision_log.stopped(*key)
            if decision is None:
                continue
            word, epoch = known.get(release, FIRST), self._epoch_of(decision)
            if epoch:
                known[release] = Word(max(word.epoch, epoch), max(word.stop, epoch))
            elif not word.stopped or decision.sequence > memory.sequence:
                unknown.add(release)
        return known, tuple(sorted(unknown))

    def _act(self, key: VersionKey, release: str, word: Word, note: Note | None, *, stop: bool) -> None:
        epoch = {"fleet": self._fleet, "fleet_epoch": word.stop if stop else word.epoch}
        if note is None or note.action != (STOP if stop else RESUME):
            by, reason, evidence = BY_FLEET, f"{'stopped' if stop else 'resumed'} on another host", epoch
        else:
            by, reason, evidence = note.by, note.reason, epoch | {"fleet_host": note.host}
        if stop:
            self._stop(*key, by, reason, evidence)
        else:
            self._resume(*key, by, reason, self.evidence.pop(release, {}) | evidence)

    def _epoch_of(self, decision: ReleaseDecision) -> int:
        """The fleet's epoch that the decision stopped; 0 if it was not made by this fleet."""
        epoch = decision.evidence.get("fleet_epoch")
        return epoch if type(epoch) is int and epoch > 0 and decision.evidence.get("fleet") == self._fleet else 0
