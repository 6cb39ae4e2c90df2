"""Which edits of the routing file this host has made, in its state folder: none is made again after a restart."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import orjson

from gateway.control.fleet.codec import typed
from gateway.control.fleet.routing_state import NOTHING

Replace = Callable[[Path, Callable[[], bytes]], None]
log: Final = logging.getLogger("gateway.control.fleet")


class RoutingMemory:
    """`fleet-routing.json` in the state folder. `applied`: by model, the id of the newest edit made here. What is kept
    of another fleet does not count.
    """

    def __init__(self, folder: Path, fleet: str, replace: Replace) -> None:
        self._file = folder / "fleet-routing.json"
        self._fleet = fleet
        self._replace = replace
        self.applied: Mapping[str, str] = self._read()

    def keep(self, applied: Mapping[str, str]) -> None:
        """Write them soon if they have changed."""
        if applied != self.applied:
            self.applied = applied
            self._replace(self._file, self._bytes)

    def _bytes(self) -> bytes:
        return orjson.dumps({"fleet": self._fleet, "applied": self.applied})

    def _read(self) -> Mapping[str, str]:
        try:
            found = orjson.loads(self._file.read_bytes())
            if found["fleet"] != self._fleet:
                return NOTHING
            (applied,) = typed([found["applied"]], (dict,))
            typed(list(applied.values()), [str] * len(applied))
        except FileNotFoundError:
            return NOTHING
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s is left out (%s): edits that were undone by hand here may be made again", self._file, error)
            return NOTHING
        return dict(applied)
