"""This host's own log of one release: what no digest in the store has counted yet, in bounded memory."""

import itertools
from collections.abc import Mapping
from typing import Any, Final

from gateway.control.fleet.counters import counts_of, has_fallen
from gateway.control.fleet.entries import Entry
from gateway.control.fleet.evidence import LOG_MARK, Log, uncounted
from gateway.control.guards.window import Sample

MOST_SENT: Final = 250  # entries in the store at a time: what a second's exchanges take is four times that
MOST_KEPT: Final = 10_000  # in memory: the oldest are kept, later ones are counted as lost
_numbers: Final = itertools.count(1)  # of this process's logs


class HostLog:
    """`name`: the incarnation and a number; another one after a leader has removed the log while this host was away."""

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self.name = self._new_name()
        self._log = Log(1)
        self._sent = 0  # number of the last entry that the store may have
        self._sample: Sample | None = None  # the latest
        self._run = 0  # of counters that do not fall
        self._randomised: Mapping[str, Any] = {}

    @property
    def lost(self) -> int:
        """Entries for which there was no room."""
        return self._log.lost

    @property
    def waiting(self) -> int:
        """Entries that no digest in the store has counted."""
        return len(self._log.entries)

    def add(self, entries: list[Entry]) -> bool:
        """Append entries, as far as there is room; returns whether there was for all."""
        log = self._log
        room = max(MOST_KEPT - len(log.entries), 0)
        lost = log.lost + max(len(entries) - room, 0)
        self._log = log._replace(entries=(*log.entries, *entries[:room]), lost=lost)
        return lost == log.lost

    def count(self, sample: Sample, randomised: Mapping[str, Any] = {}) -> None:
        """Take in the present counters. If they have fallen, as when a version is loaded anew, a run begins.
        `randomised`: see `randomised_counts`.
        """
        self._randomised = randomised
        if self._sample is None or has_fallen(sample, self._sample):
            self._run += 1
        self._sample = sample

    def drop_counted(self, offset: int) -> None:
        """Drop the entries up to this number: a digest in the store has counted them."""
        self._log = uncounted(self._log, offset)

    def drop_all(self) -> None:
        """Drop all entries: the release has other settings from now on. They are counted as lost."""
        self._sample = None
        log = self._log
        end = log.first + len(log.entries)
        self._log = log._replace(first=end, entries=(), lost=log.lost + len(log.entries))

    def record(self, settings: str, versions: tuple[int, int]) -> Log:
        """The record for the store."""
        log, sample = self._log, self._sample
        counts = {} if sample is None else {**counts_of(sample, versions, self._run), **self._randomised}
        return log._replace(entries=log.entries[:MOST_SENT], settings=settings, counts=counts)

    def sent(self, record: Log) -> None:
        """The store may have this record now."""
        self._sent = max(self._sent, record.first + len(record.entries) - 1)

    def begin_anew(self) -> None:
        """Begin another log: a leader has counted all of this one that was in the store, and removed it."""
        entries = uncounted(self._log, self._sent).entries
        self._log = Log(1, entries, lost=self._log.lost)
        self._sent = 0
        self.name = self._new_name()

    def _new_name(self) -> str:
        return f"{self._incarnation}{LOG_MARK}{next(_numbers)}"
