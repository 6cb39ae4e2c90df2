"""What the host that follows the registry for a fleet tells the others, as it lies in the fleet's store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from gateway.control.metrics.registry_metrics import RegistryModel
from gateway.control.registry.memory import ModelMemory
from gateway.control.registry.step import Aliases, Here
from gateway.system.printable import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNews:
    """One model. `champion`, `challenger`: the versions of these aliases when they were read. `stable`, `candidate`: in
    force at that host. `done_champion`, `done_challenger`: the versions of the aliases that it has dealt with last.
    `to_tell`: whether the registry is to be told of `stable` yet. `refused`, `why`, `written`: as in its memory;
    `tags`: the versions whose stop has been dealt with. `note`, `problem`, `pending`: as it shows them.
    """

    registered: str
    champion: int | None
    challenger: int | None
    stable: int
    candidate: int | None
    done_champion: int | None
    done_challenger: int | None
    to_tell: bool = True
    refused: int | None = None
    why: str = ""
    tags: tuple[int, ...] = ()
    written: Mapping[int, str] = field(default_factory=dict)
    note: str = ""
    problem: bool = False
    pending: int = 0

    @property
    def aliases(self) -> Aliases:
        """As they were read."""
        return Aliases(self.champion, self.challenger)


@dataclass(frozen=True, slots=True)
class RegistryNews:
    """`error`: why the registry does not answer, empty if it does. `answered_s`: when it last did, in seconds since
    1970, 0 if never. `models`: by their names here.
    """

    error: str = ""
    answered_s: float = 0.0
    models: Mapping[str, ModelNews] = field(default_factory=dict)


MOST_SHOWN: Final = 200  # characters
NO_NEWS: Final = RegistryNews()
_NEWS: Final = TypeAdapter(RegistryNews)


def news_of_model(memory: ModelMemory, seen: Aliases, here: Here, shown: RegistryModel) -> ModelNews:
    """What the other hosts are to know of a model. `seen`: the aliases as they were read."""
    return ModelNews(
        registered=memory.registered, champion=seen.champion, challenger=seen.challenger,
        stable=here.stable, candidate=here.candidate, done_champion=memory.champion, done_challenger=memory.challenger,
        to_tell=memory.is_to_tell(here.stable), refused=memory.refused, why=memory.why,
        tags=tuple(sorted(memory.tags)), written=dict(memory.written),
        note=shown.note, problem=shown.problem, pending=shown.pending,
    )  # fmt: skip


def document_of(news: RegistryNews) -> dict[str, Any]:
    """The JSON object that is stored."""
    document: dict[str, Any] = _NEWS.dump_python(news, mode="json")
    return document


def news_of(document: Mapping[str, Any]) -> RegistryNews:
    """What was stored; what a later release has added is left out. Raises ValueError, which says where, if it is not
    readable: damaged, or of a later release.
    """
    try:
        return _NEWS.validate_python(document) if document else NO_NEWS
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise ValueError(f"{printable(path[:MOST_SHOWN])}: {first['msg']}") from None


def adopt(memory: ModelMemory, news: ModelNews, stops: Mapping[int, int]) -> bool:
    """Remember which stops the other host has told the registry of, so that this one could go on. `stops`: here, by
    version, the sequence of the decision. Returns whether that is new.
    """
    tags, written = {version: stops.get(version, 0) for version in news.tags}, dict(news.written)
    if (memory.tags, memory.written) == (tags, written):
        return False
    memory.tags, memory.written = tags, written
    return True
