"""Reads the stops on a switchboard that a killed control process has left: they may be missing on disk."""

from pathlib import Path
from typing import NamedTuple

from gateway.errors import SettingsError
from gateway.shm.switchboard import Switchboard
from gateway.shm.tally import TRIPS


class StoppedRelease(NamedTuple):
    """A release stopped on the board. `worker`: whose breaker tripped, for the reason `found`; None: control did it."""

    model: str
    version: int
    worker: int | None
    found: str


class PreviousBoard:
    """The board that an earlier run left at `path`, for any number of workers; empty if it is missing or of another
    layout. Workers that outlive their control process may still write to it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._board: Switchboard | None = Switchboard.attach(path, None)
        except SettingsError:
            self._board = None

    def stopped(self) -> list[StoppedRelease]:
        """Return the releases stopped in their last epoch."""
        return [] if self._board is None else list(filter(None, map(self._of, self._board.all_stopped())))

    def _of(self, slot: int) -> StoppedRelease | None:
        assert self._board is not None
        key = self._board.names.get(slot)
        if key is None:
            return None
        workers = self._board.tripped_by(slot)
        worker = workers[0] if workers else None
        found = 0 if worker is None else self._board.words[self._board.names.found_word(slot, worker)]
        return StoppedRelease(*key, worker, TRIPS[found] if 0 <= found < len(TRIPS) else TRIPS[0])


def stopped_on(path: Path) -> list[StoppedRelease]:
    """Return the stopped releases on the board at `path`; raise SettingsError if it is missing or of another layout."""
    Switchboard.attach(path, None)
    return PreviousBoard(path).stopped()
