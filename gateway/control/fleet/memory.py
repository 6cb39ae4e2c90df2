"""What a host keeps of the fleet in its state folder, so that a stop survives the store: the words it knows, the stops
that the store does not have yet, and the members that hold, which no stop may presume closed.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.control.fleet.codec import typed, words_of
from gateway.control.fleet.host import NO_HOLDERS, Holders
from gateway.control.fleet.store_state import NO_WORDS, Identity, Words

Replace = Callable[[Path, Callable[[], bytes]], None]
log: Final = logging.getLogger("gateway.control.fleet")


class FleetMemory:
    """`fleet.json` in the state folder. `fleet`: the fleet's name; what is kept of another one does not count.

    `sequence`: of the last decision whose stop is among the words.
    """

    def __init__(self, folder: Path, fleet: str, replace: Replace) -> None:
        self._file = folder / "fleet.json"
        self._fleet = fleet
        self._replace = replace
        self.words: Words = NO_WORDS
        self.stops: tuple[str, ...] = ()
        self.sequence = 0
        self.holders = NO_HOLDERS
        self._read()

    def keep(self, words: Words, stops: tuple[str, ...], sequence: int, holders: Holders = NO_HOLDERS) -> None:
        """Write them soon if they have changed."""
        if (words, stops, sequence, holders) == (self.words, self.stops, self.sequence, self.holders):
            return
        self.words, self.stops, self.sequence, self.holders = words, stops, sequence, holders
        self._replace(self._file, self._bytes)

    def _bytes(self) -> bytes:
        words = {release: list(word) for release, word in self.words.items()}
        kept = {"fleet": self._fleet, "words": words, "stops": self.stops, "sequence": self.sequence}
        if self.holders.names:
            names, identity = self.holders
            kept |= {"holders": dict(names), "holders_of": None if identity is None else list(identity)}
        return orjson.dumps(kept)

    def _read(self) -> None:
        try:
            found = orjson.loads(self._file.read_bytes())
            if found["fleet"] != self._fleet:
                return
            words = words_of(found["words"])
            stops, sequence = typed([found["stops"], found["sequence"]], (list, int))
            stops = tuple(typed(stops, [str] * len(stops)))
            holders = _holders(found)
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("%s is left out (%s): the stops in the decision log apply", self._file, error)
            return
        self.words, self.stops, self.sequence, self.holders = words, stops, sequence, holders


def _holders(found: dict[str, Any]) -> Holders:
    """Earlier releases have not kept them. Raises TypeError, ValueError, AttributeError."""
    names, identity = found.get("holders", {}), found.get("holders_of")
    typed([*names.values()], [str] * len(names))
    return Holders(names, Identity(*typed(identity, (str, str)))) if identity else NO_HOLDERS
