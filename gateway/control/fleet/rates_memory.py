"""Which record of the rates was this state folder's last gateway's, so that the next one takes its shares over."""

import logging
from collections.abc import Callable, Container
from pathlib import Path
from typing import Final

import orjson

from gateway.control.fleet.codec import typed

Replace = Callable[[Path, Callable[[], bytes]], None]
log: Final = logging.getLogger("gateway.control.fleet")


class RatesMemory:
    """`fleet-rates.json` in the state folder, which one gateway at a time uses. A copy of the folder does not count: it
    has another inode.
    """

    def __init__(self, folder: Path, fleet: str, replace: Replace) -> None:
        self._file = folder / "fleet-rates.json"
        self._place = [fleet, folder.stat().st_dev, folder.stat().st_ino]
        self._replace = replace
        self._last = self._read()

    def keep(self, incarnation: str) -> None:
        """Write soon that this is the one from now on."""
        self._replace(self._file, lambda: orjson.dumps([*self._place, incarnation]))

    def predecessor(self, records: Container[str]) -> str | None:
        """The last gateway's incarnation, if it has not given its shares back."""
        return self._last if self._last in records else None

    def _read(self) -> str | None:
        try:
            *place, last = typed(orjson.loads(self._file.read_bytes()), (str, int, int, str))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning(
                "%s is left out (%s): if the last gateway was killed, see gateway fleet remove", self._file, error
            )
            return None
        return str(last) if place == self._place else None
