"""Which records of the rates were those of this state folder's earlier gateways, so that the next one removes them."""

import logging
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Final

import orjson

from gateway.control.fleet.codec import typed

Replace = Callable[[Path, Callable[[], bytes]], None]
MOST: Final = 64  # earlier gateways
log: Final = logging.getLogger("gateway.control.fleet")


class RatesMemory:
    """`fleet-rates.json` in the state folder, which one gateway at a time uses. A copy of the folder does not count: it
    has another inode, unless the whole disk was cloned.
    """

    def __init__(self, folder: Path, fleet: str, replace: Replace) -> None:
        self._file = folder / "fleet-rates.json"
        self._place = [fleet, folder.stat().st_dev, folder.stat().st_ino]
        self._replace = replace
        self._earlier = self._read()

    def keep(self, incarnation: str) -> None:
        """Write soon that this is the one from now on. Those before it stay known: without contact none is removed."""
        known = [*self._earlier, incarnation][-MOST:]
        self._replace(self._file, lambda: orjson.dumps([*self._place, known]))

    def predecessors(self, records: Container[str], beating: Container[str]) -> list[str]:
        """Incarnations of earlier gateways that have not given their shares back. One that is `beating` runs on the
        disk of which this one is a clone.
        """
        return [one for one in self._earlier if one in records and one not in beating]

    def _read(self) -> Sequence[str]:
        try:
            *place, earlier = typed(orjson.loads(self._file.read_bytes()), (str, int, int, list))
            earlier = typed(earlier, [str] * len(earlier))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s is left out (%s): see gateway fleet remove", self._file, error)
            return ()
        if place != self._place:
            log.warning("%s is of another fleet or folder, and is left out: see gateway fleet remove", self._file)
            return ()
        return earlier
