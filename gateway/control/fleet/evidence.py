"""A model's release as the fleet has it in the store: a digest, and beside it each host's log of what it does not hold.

The digest says who leads, what has been counted and which weights follow. An entry of a log has a number, 1 for a
log's first. A host keeps its entries, and sends them again, until the digest that the store holds has counted them: so
none is lost or counted twice, whatever is dropped, doubled or delayed on the way.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

NO_OFFSETS: Final[Mapping[str, int]] = {}
NO_WEIGHTS: Final[Mapping[str, int]] = {}
LOG_MARK: Final = "-"  # after the incarnation, in the name of a log


class Digest(NamedTuple):
    """`version` rises with every write. `leader`: an incarnation. `settings`: those of the release at the leader.

    `epoch`: the fleet's epoch of `state`, which is the controller's. `weights`: in ppm, by live route. `offsets`: by
    log, the number of the last entry counted. `recent`: latest items of feedback counted. `lost`: entries that were
    never counted, since the store or a host's memory had lost them.
    """

    version: int
    leader: str
    settings: str = ""
    epoch: int = 0
    state: Any = None
    weights: Mapping[str, int] = NO_WEIGHTS
    offsets: Mapping[str, int] = NO_OFFSETS
    recent: tuple[str, ...] = ()
    lost: int = 0


class Log(NamedTuple):
    """A host's entries that no digest has counted, from number `first` on, and its latest counters (`counts`).

    `settings`: those of the release at the host. `lost`: entries for which there was no room.
    """

    first: int
    entries: tuple[Any, ...] = ()
    settings: str = ""
    counts: Any = None
    lost: int = 0


NO_LOGS: Final[Mapping[str, Log]] = {}


class Release(NamedTuple):
    """One model's data in the store. `digest`: None if there is none."""

    digest: Digest | None = None
    logs: Mapping[str, Log] = NO_LOGS


class News(NamedTuple):
    """`entries` that are to be counted next, in this order, and the `offsets` and `lost` of the digest that does."""

    entries: tuple[Any, ...]
    offsets: Mapping[str, int]
    lost: int


def host_of(log: str) -> str:
    """The incarnation whose log it is."""
    return log.partition(LOG_MARK)[0]


def uncounted(log: Log, offset: int) -> Log:
    """The log without the entries up to `offset`, which a digest in the store has counted."""
    counted = offset + 1 - log.first
    return log._replace(first=offset + 1, entries=log.entries[counted:]) if counted > 0 else log


def news(digest: Digest, logs: Mapping[str, Log], most: int, ripe: Callable[[Any], bool] = lambda entry: True) -> News:
    """What is to be counted beyond the digest: at most `most` entries, each log's in order and up to its first that is
    not `ripe`. Entries of hosts with other settings are passed over.
    """
    found: list[Any] = []
    offsets, lost = dict(digest.offsets), digest.lost
    share = max(most // max(len(logs), 1), 1)
    for name, log in sorted(logs.items()):
        offset = offsets.get(name, 0)
        if log.first > offset + 1:  # the store has lost the digest that counted those between, or they were lost
            lost += log.first - 1 - offset
            offset = log.first - 1
        for entry in log.entries[offset + 1 - log.first :][:share]:
            if log.settings == digest.settings:
                if not ripe(entry):
                    break
                found.append(entry)
            offset += 1
        if offset:
            offsets[name] = offset
    return News(tuple(found), offsets, lost)


def counted_between(before: Mapping[str, Log], offsets: Mapping[str, int]) -> tuple[Any, ...]:
    """The entries of the logs as they were that a digest with these offsets has counted."""
    return tuple(
        entry for name, log in before.items() for entry in log.entries[: max(offsets.get(name, 0) + 1 - log.first, 0)]
    )


def newest(stored: Digest | None, kept: Digest | None) -> Digest | None:
    """The digest to go on from: that of the store, unless the store has lost a later one that this host has kept."""
    if stored is None or (kept is not None and kept.version > stored.version):
        return kept
    return stored


def retired(digest: Digest, logs: Mapping[str, Log], gone: Callable[[str], bool]) -> tuple[str, ...]:
    """The logs to be removed: those of hosts that are `gone`, all of whose entries the digest has counted."""
    return tuple(
        name
        for name, log in sorted(logs.items())
        if gone(host_of(name)) and digest.offsets.get(name, 0) >= log.first + len(log.entries) - 1
    )
