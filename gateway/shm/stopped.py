"""What a switchboard that a killed control has left says of stops: some may have reached no disk."""

from pathlib import Path
from typing import NamedTuple

from gateway.errors import SettingsError
from gateway.shm.switchboard import Switchboard
from gateway.shm.tally import TRIPS


class Stopped(NamedTuple):
    """A release that is stopped there. `worker` is None where control itself had stopped it, else `found` says why."""

    model: str
    version: int
    worker: int | None
    found: str


class LeftBoard:
    """The board at `path`, of whatever number of workers; none, where there is none of this version.

    Workers that the killed control has left may still write to it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._board: Switchboard | None = Switchboard.attach(path, None)
        except SettingsError:
            self._board = None

    def stopped(self) -> list[Stopped]:
        """The releases that it says are stopped, in the epoch that each was in at the end."""
        return [] if self._board is None else list(filter(None, map(self._of, self._board.all_stopped())))

    def _of(self, slot: int) -> Stopped | None:
        assert self._board is not None
        key = self._board.names.get(slot)
        if key is None:
            return None
        workers = self._board.tripped_by(slot)
        worker = workers[0] if workers else None
        found = 0 if worker is None else self._board.words[self._board.names.found_word(slot, worker)]
        return Stopped(*key, worker, TRIPS[found] if 0 <= found < len(TRIPS) else TRIPS[0])


def stopped_on(path: Path) -> list[Stopped]:
    """Of the board that lies there now; raises SettingsError where it is of another version."""
    Switchboard.attach(path, None)
    return LeftBoard(path).stopped()
