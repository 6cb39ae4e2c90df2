"""The release memory: what is in force, kept in the state folder so that it survives a routing file that is truncated,
emptied or deleted.

STATE/releases.json   {"models": ..., "undo": ...}: each model's versions, salt and stickiness; the last promotions
STATE/accepted.yaml   the routing file's bytes as accepted last; no routing file has this name itself
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
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


def with_undo_points(memory: ReleaseMemory, before: ReleaseMemory) -> ReleaseMemory:
    """The memory with the undo points of `before`, for the models that have the same versions in both."""
    return {
        name: replace(one, undo=old.undo) if (old.stable, old.candidate) == (one.stable, one.candidate) else one
        for name, one in memory.items()
        for old in (before.get(name, one),)
    }


class ReleaseMemoryFile:
    """Reads and writes the two files in `folder`. If the memory is missing or damaged, it is rebuilt from the text, and
    an error is logged.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "releases.json"
        self._text = folder / "accepted.yaml"

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever accepted: neither file is there."""
        return not (os.path.lexists(self._file) or os.path.lexists(self._text))

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
            document = orjson.loads(self._file.read_bytes())
            return self._with_undo({**configured, **_memory_of(document)}, document.get("undo", {}))
        except FileNotFoundError:
            if configured:
                log.error("%s is missing and is created anew from %s; %s", self._file, self._text, _UNNAMED)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("%s is damaged (%s) and is created anew from %s; %s", self._file, error, self._text, _UNNAMED)
        return configured

    def write(self, memory: ReleaseMemory, text: bytes | None) -> bool:
        """Write both durably. Returns False, and logs an error, if the disk refuses them."""
        models = {name: asdict(one) for name, one in sorted(memory.items())}
        # Not in the entries: a gateway that does not know the key would take the whole memory for damaged.
        undo = {name: point for name, fields in models.items() if (point := fields.pop("undo")) is not None}
        document = orjson.dumps({"models": models, "undo": undo})
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

    def _with_undo(self, memory: dict[str, RememberedRelease], points: Any) -> ReleaseMemory:
        """The memory with the promotions that can be undone. A damaged one costs only itself."""
        if not isinstance(points, dict):
            log.error("%s: undo must be a mapping; no promotion before now can be undone", self._file)
            return memory
        for name, fields in points.items():
            try:
                memory[name] = replace(memory[name], undo=_undo_point(**fields))
            except (ValueError, TypeError, KeyError) as error:
                log.error("%s: undo.%s is damaged: %s; that promotion cannot be undone", self._file, name, error)
        return memory


_UNNAMED: Final = "a model without an entry in it is served in the highest of its versions that is not stopped"


def _memory_of(document: Any) -> dict[str, RememberedRelease]:
    """Parse the document. Raises ValueError, TypeError, KeyError or AttributeError if it is not a valid memory."""
    memory = {name: _entry(**fields) for name, fields in document["models"].items()}
    for name, one in memory.items():
        one.release()  # validates the versions
        known = isinstance(one.configured, bool) and isinstance(one.salt, str | None)
        if not (known and isinstance(name, str)):
            raise ValueError(f"its entry of {name!r} has values of the wrong type")
    return memory


def _entry(**fields: Any) -> RememberedRelease:
    """One model's entry. `configured` was called `named` in state folders written before it was renamed."""
    if "named" in fields:
        fields["configured"] = fields.pop("named")
    fields.pop("undo", None)
    return RememberedRelease(**fields)


def _undo_point(*, stable: int, entry: str, edited: bool = False) -> UndoPoint:
    """One model's promotion in the file. Raises ValueError, or TypeError if a field is missing or unknown."""
    if not (type(stable) is int and 0 < stable < 2**63 and isinstance(entry, str) and isinstance(edited, bool)):
        raise ValueError("it must be {stable: a version, entry: a text, edited: true or false}")
    return UndoPoint(stable, entry, edited)
