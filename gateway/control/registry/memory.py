"""What has been done about each model's aliases and stops, in STATE/registry.json: a restart goes on from there.

An alias is obeyed when it moves, not as long as it stands: else a person's edit of the routing file would be undone by
the next poll. So the versions of the aliases that were dealt with last are remembered.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

FILE: Final = "registry.json"
MOST_AGREED: Final = 20
log: Final = logging.getLogger("gateway.control.registry")
Replace = Callable[[Path, Callable[[], bytes]], None]


@dataclass(slots=True, kw_only=True)
class ModelMemory:
    """One model. `registered`: its name in the registry. `champion`, `challenger`: the versions of these aliases that
    were dealt with last. `stable`: the stable version here that the registry was told of, or was first found with.

    `move_to`: the champion that the registry is to be told of, None if none; `move_from`: the one that it had when the
    stable version changed here. `asked`: the challenger that was seen last, and `asked_at`: the sequence of the last
    decision when it was first seen. `brought`: the version that was last made the candidate for the challenger.
    `agreed`: versions that were stable here and champion there at the same time, the latest MOST_AGREED.
    `refused`: the version that was refused, and `why`. `tags`: by stopped version, the sequence of the decision that
    was dealt with. `written`: by version, how the text of its tag ends, by whichever host of the fleet it was written.
    """

    registered: str
    champion: int | None = None
    challenger: int | None = None
    stable: int = 0
    move_to: int | None = None
    move_from: int | None = None
    asked: int | None = None
    asked_at: int = 0
    brought: int | None = None
    agreed: list[int] = field(default_factory=list)
    refused: int | None = None
    why: str = ""
    tags: dict[int, int] = field(default_factory=dict)
    written: dict[int, str] = field(default_factory=dict)

    def is_to_tell(self, stable: int) -> bool:
        """Whether the registry is to be told of the stable version here."""
        return stable != self.stable or self.move_to is not None

    def agree(self, version: int) -> bool:
        """Remember that the version is stable here and champion there; False if that was known."""
        if self.agreed[-1:] == [version]:
            return False
        self.agreed = [*(one for one in self.agreed if one != version), version][-MOST_AGREED:]
        return True


class RegistryMemory:
    """The memory of all models. `replace`: writes a file of the state folder soon, in a thread. A damaged file is
    logged, and counts as missing.
    """

    def __init__(self, state: Path, replace: Replace) -> None:
        self._file = state / FILE
        self._replace = replace
        self._models = _read(self._file)

    def of(self, model: str, registered: str) -> ModelMemory | None:
        """The memory of a model; None if it is new under this name in the registry."""
        found = self._models.get(model)
        return found if found is not None and found.registered == registered else None

    def add(self, model: str, memory: ModelMemory) -> None:
        """Remember a new model; `save` it afterwards."""
        self._models[model] = memory

    def save(self) -> None:
        """Write what is remembered now, soon."""
        content = orjson.dumps(
            {"models": {name: asdict(one) for name, one in self._models.items()}}, option=orjson.OPT_NON_STR_KEYS
        )
        self._replace(self._file, lambda: content)


def _read(file: Path) -> dict[str, ModelMemory]:
    try:
        models = orjson.loads(file.read_bytes())["models"]
        return {name: _memory(one) for name, one in models.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("%s cannot be used (%s): the registry's aliases count as seen for the first time", file, error)
        return {}


def _memory(said: dict[str, Any]) -> ModelMemory:
    """Raises TypeError or ValueError. Keys of a later release are left out."""
    known = {name: said[name] for name in ModelMemory.__slots__ if name in said}
    by_version = {
        "tags": {int(version): int(one) for version, one in said.get("tags", {}).items()},
        "written": {int(version): str(one) for version, one in said.get("written", {}).items()},
    }
    memory = ModelMemory(**known | by_version)
    versions = (memory.champion, memory.challenger, memory.move_to, memory.move_from, memory.asked, memory.brought)
    wrong = any(one is not None and type(one) is not int for one in (*versions, memory.refused))
    wrong = wrong or type(memory.agreed) is not list or any(type(one) is not int for one in memory.agreed)
    if (
        wrong
        or type(memory.stable) is not int
        or type(memory.asked_at) is not int
        or not isinstance(memory.registered, str)
        or not isinstance(memory.why, str)
    ):
        raise ValueError("a field is of another type")
    return memory
