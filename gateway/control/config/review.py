"""A new text of the routing file, judged by the one accepted last and by what is remembered; and what it changes."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.control.config.file_history import compared
from gateway.control.config.file_snapshot import Snapshot, revision_of
from gateway.control.config.resolve import Known, Resolved, resolve
from gateway.control.config.truncation import cut_problems, is_cut
from gateway.errors import SettingsError
from gateway.settings.routing import ReleaseSettings, RoutingSettings, SplitSettings
from gateway.settings.routing_file import routing_of

log: Final = logging.getLogger("gateway.control.config")
MOST_TOLD: Final = 16  # models with a decision of their own after one edit
BY_FILE: Final = "file"


@dataclass(frozen=True, slots=True)
class Told:
    """A decision to be kept: `model` is empty where the edit concerns none, or very many."""

    model: str
    candidate: int
    reason: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The text accepted last, None before the first, and its releases (none where it can no longer be read)."""

    text: bytes | None = None
    routing: RoutingSettings = field(default_factory=RoutingSettings)


def accepted(text: bytes | None) -> Accepted:
    """`text` as it was accepted once."""
    if text is None:
        return Accepted()
    try:
        return Accepted(text, routing_of(text, "accepted.yaml"))
    except SettingsError as error:  # of an older gateway, or damaged: what is remembered of versions does without it
        log.error("the routing accepted last cannot be read, so no edit is compared with it: %s", error)
        return Accepted(text)


def judge(content: bytes, before: Accepted, known: Known, source: str) -> tuple[Accepted, Resolved]:
    """The text and what to serve by it; raises SettingsError."""
    routing = routing_of(content, source)
    if before.text is not None and is_cut(before.text, content):
        problems = list(cut_problems(before.routing, routing, known.stopped))
        if problems:
            raise SettingsError(source, problems)
    return Accepted(content, routing), resolve(routing, known, source)


def evidence_of(before: bytes, now: Snapshot, source: str) -> dict[str, object]:
    """What a decision by the file says beside its reason."""
    return {
        "difference": compared(before, now.content, source),
        "before": revision_of(before),
        "after": now.revision,
        "modified_ns": now.modified_ns,
        "owner": now.owner,
    }


def edited(before: RoutingSettings, after: RoutingSettings) -> list[str]:
    """The models whose entries are different."""
    return sorted(name for name in {*before.models, *after.models} if before.models.get(name) != after.models.get(name))


def told(before: RoutingSettings, after: RoutingSettings, notes: Mapping[str, Sequence[str]]) -> list[Told]:
    """The decisions that an edit is: one for each model that it concerns, or one for all."""
    names = edited(before, after)
    if 0 < len(names) <= MOST_TOLD:
        return [_told(name, before.models.get(name), after.models.get(name), notes.get(name, ())) for name in names]
    reason = f"the entries of {len(names)} models were edited" if names else "nothing but comments or layout was edited"
    return [Told("", 0, reason)]


def _told(name: str, old: ReleaseSettings | None, new: ReleaseSettings | None, notes: Sequence[str]) -> Told:
    version = (new and (new.candidate or new.stable)) or (old and (old.candidate or old.stable)) or 0
    if old is None or new is None:
        return Told(name, version, "; ".join(notes) or f"models.{name}: its entry is {'gone' if old else 'new'}")
    said = [*notes, *_weights(name, old, new)]
    return Told(name, version, "; ".join(said) or f"models.{name}: {', '.join(_keys(old, new))} edited")


def _weights(name: str, old: ReleaseSettings, new: ReleaseSettings) -> Iterator[str]:
    was = {route.name: route.weight for route in (old.split or SplitSettings()).routes}
    now = {route.name: route.weight for route in (new.split or SplitSettings()).routes}
    for route in [*was, *(route for route in now if route not in was)]:
        if was.get(route) != now.get(route):
            yield f"models.{name}: weight of {route} {_percent(was.get(route))} -> {_percent(now.get(route))}"


def _percent(weight: int | str | None) -> str:
    return "none" if weight is None else f"{weight / 10_000:g}%" if isinstance(weight, int) else weight


def _keys(old: ReleaseSettings, new: ReleaseSettings) -> list[str]:
    return [key for key in ReleaseSettings.model_fields if getattr(old, key) != getattr(new, key)]
