"""A model's evidence in the store: each host appends entries, the leader folds them into a digest.

An entry has a number, 1 for a host incarnation's first. A host keeps its entries until a digest has counted them, and
sends them again if it does not know that they arrived. Only the write of a digest that holds an entry removes it.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from gateway.control.fleet.store_state import Identity

Fold = Callable[[str, str, tuple[int, ...]], str]  # the state, the incarnation, its entries in order; to the next state


NO_OFFSETS: Final[Mapping[str, int]] = {}


class Digest(NamedTuple):
    """`state`: what has been counted. `offsets`: by incarnation, the number of the last entry counted."""

    version: int
    state: str
    offsets: Mapping[str, int]


class EntryLog(NamedTuple):
    """A host's entries that no digest has counted. `first`: the number of the first. `lost`: with the store's data."""

    first: int
    entries: tuple[int, ...]
    lost: int = 0

    @property
    def end(self) -> int:
        """The number of the next entry."""
        return self.first + len(self.entries)


NO_LOGS: Final[Mapping[str, EntryLog]] = {}


class Evidence(NamedTuple):
    """One model's evidence."""

    digest: Digest = Digest(0, "", NO_OFFSETS)
    logs: Mapping[str, EntryLog] = NO_LOGS


def append(evidence: Evidence, incarnation: str, first: int, entries: tuple[int, ...]) -> Evidence:
    """Script: add the entries that are not there yet; `first` is the number of the first. May be repeated."""
    log = evidence.logs.get(incarnation) or EntryLog(evidence.digest.offsets.get(incarnation, 0) + 1, ())
    new = entries[max(log.end - first, 0) :]
    if not new:
        return evidence
    if first > log.end:  # the store has lost some: they were counted in a lost digest, or not at all
        log = EntryLog(first, (), log.lost + first - log.end) if not log.entries else log
        if log.entries:
            return evidence  # only once those before the gap have been counted
    log = EntryLog(log.first, log.entries + new, log.lost)
    return evidence._replace(logs={**evidence.logs, incarnation: log})


def fold(evidence: Evidence, counted: Fold) -> Digest:
    """The digest that also counts all entries that are in the store."""
    state, offsets = evidence.digest.state, dict(evidence.digest.offsets)
    for incarnation, log in sorted(evidence.logs.items()):
        if log.entries:
            state = counted(state, incarnation, log.entries)
            offsets[incarnation] = log.end - 1
    return Digest(evidence.digest.version + 1, state, offsets)


def store_digest(
    evidence: Evidence, digest: Digest, *, identity: Identity, known: Identity | None
) -> tuple[Evidence, bool]:
    """Script: store the digest that follows the one stored and remove the entries it counts. Returns whether it did.

    `identity`: the store's. `known`: that of the store from which the digest was made.
    """
    if known != identity or digest.version != evidence.digest.version + 1:
        return evidence, False
    return Evidence(digest, trimmed(evidence.logs, digest.offsets)), True


def trimmed(logs: Mapping[str, EntryLog], offsets: Mapping[str, int]) -> Mapping[str, EntryLog]:
    """The logs without the entries up to the offsets."""
    return {name: _after(log, offsets.get(name, 0)) for name, log in logs.items()}


def _after(log: EntryLog, offset: int) -> EntryLog:
    counted = offset + 1 - log.first
    return EntryLog(offset + 1, log.entries[counted:], log.lost) if counted > 0 else log
