"""The release memory: what is in force, kept in the state folder so that it survives a routing file that is truncated,
emptied or deleted.

STATE/releases.json   each model's versions, salt and stickiness
STATE/accepted.yaml   the routing file's bytes as accepted last; no routing file has this name itself
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.settings.routing import ReleaseSettings, RoutingSettings, SplitSettings
from gateway.system.durable_files import replace_durably

log: Final = logging.getLogger("gateway.control.config")


@dataclass(frozen=True, slots=True)
class UndoPoint:
    """The last promotion, while no later release has replaced it. `stable`: the version that was stable before it.
    `entry`: a fingerprint of the model's entry as the promotion left it; `edited`: the entry is another by now.
    """

    stable: int
    entry: str
    edited: bool = False


@dataclass(frozen=True, slots=True)
class RememberedRelease:
    """What is remembered of one model. `configured`: it has an entry in the text accepted last. `salt`: as written
    there, else None. `undo`: the promotion that can be undone.
    """

    stable: int
    candidate: int | None = None
    salt: str | None = None
    stickiness: str = "customer"
    configured: bool = True
    undo: UndoPoint | None = None

    def release(self) -> ReleaseSettings:
        """The release to serve if the model has no entry: no route leads to the candidate."""
        if self.candidate is None:
            return ReleaseSettings(stable=self.stable)
        split = SplitSettings(stickiness=self.stickiness, salt=self.salt)
        return ReleaseSettings(stable=self.stable, candidate=self.candidate, split=split)


ReleaseMemory = Mapping[str, RememberedRelease]


def remember(settings: ReleaseSettings) -> RememberedRelease:
    """What to remember of a routing entry."""
    split = settings.split or SplitSettings()
    return RememberedRelease(settings.stable, settings.candidate, split.salt, split.stickiness)


class ReleaseMemoryFile:
    """Reads and writes the two files in `folder`. If the memory is missing or damaged, it is rebuilt from the text, and
    an error is logged.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "releases.json"
        self._text = folder / "accepted.yaml"

    def text(self) -> bytes | None:
        """The routing file as accepted last; None if none was ever accepted or it cannot be read."""
        try:
            return self._text.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error(
                "%s, a copy of the routing file that was accepted last, cannot be read: %s", self._text, error.strerror
            )
            return None

    def read(self, entries: RoutingSettings) -> ReleaseMemory:
        """The memory; empty before the first start. `entries`: those of the accepted text."""
        configured = {name: remember(settings) for name, settings in entries.models.items()}
        try:
            return {**configured, **_memory_of(orjson.loads(self._file.read_bytes()))}
        except FileNotFoundError:
            if configured:
                log.error("%s is missing and is created anew from %s; %s", self._file, self._text, _UNNAMED)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("%s is damaged (%s) and is created anew from %s; %s", self._file, error, self._text, _UNNAMED)
        return configured

    def write(self, memory: ReleaseMemory, text: bytes | None) -> bool:
        """Write both durably. Returns False, and logs an error, if the disk refuses them."""
        document = orjson.dumps({"models": {name: _document(one) for name, one in sorted(memory.items())}})
        try:
            if text is not None:
                replace_durably(self._text, text)
            replace_durably(self._file, document)
        except OSError as error:
            log.error(
                "%s cannot be written; a restart would serve the releases as last written there: %s", self._file, error
            )
            return False
        return True


_UNNAMED: Final = "a model without an entry in it is served in the highest of its versions that is not stopped"


def _memory_of(document: Any) -> dict[str, RememberedRelease]:
    """Parse the document. Raises ValueError, TypeError, KeyError or AttributeError if it is not a valid memory."""
    memory = {name: _entry(**fields) for name, fields in document["models"].items()}
    for name, one in memory.items():
        one.release()  # validates the versions
        undo = one.undo.stable if one.undo is not None else 1
        known = isinstance(one.configured, bool) and isinstance(one.salt, str | None) and isinstance(undo, int)
        if not (known and isinstance(name, str)):
            raise ValueError(f"its entry of {name!r} has values of the wrong type")
    return memory


def _entry(**fields: Any) -> RememberedRelease:
    """One model's entry. `configured` was called `named` in state folders written before it was renamed."""
    if "named" in fields:
        fields["configured"] = fields.pop("named")
    if fields.get("undo") is not None:
        fields["undo"] = UndoPoint(**fields["undo"])
    return RememberedRelease(**fields)


def _document(one: RememberedRelease) -> dict[str, Any]:
    """One model's entry in the file. Without a promotion it is as gateways before `undo` wrote and read it."""
    return {key: value for key, value in asdict(one).items() if key != "undo" or value is not None}
