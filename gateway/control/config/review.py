"""Reviews a new text of the routing file against the one accepted last and the release memory, and describes what it
changes.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.control.config.file_history import shortened_diff
from gateway.control.config.file_snapshot import Snapshot, revision_of
from gateway.control.config.resolve import ResolvedRouting, ResolveInput, resolve
from gateway.control.config.truncation import is_truncated, truncation_problems
from gateway.errors import SettingsError
from gateway.settings.routing import ReleaseSettings, RoutingSettings, SplitSettings
from gateway.settings.routing_file import parse_routing

log: Final = logging.getLogger("gateway.control.config")
MAX_DECISIONS: Final = 16  # models with a decision of their own after one edit
BY_FILE: Final = "file"


@dataclass(frozen=True, slots=True)
class EditDecision:
    """A decision to record for an edit; `model` is empty if the edit concerns no model, or very many."""

    model: str
    candidate: int
    reason: str


@dataclass(frozen=True, slots=True)
class AcceptedText:
    """The text accepted last, None before the first, and its releases (none if it can no longer be parsed)."""

    text: bytes | None = None
    routing: RoutingSettings = field(default_factory=RoutingSettings)


def parse_accepted(text: bytes | None) -> AcceptedText:
    """Parse the text accepted last; logs an error if that is no longer possible."""
    if text is None:
        return AcceptedText()
    try:
        return AcceptedText(text, parse_routing(text, "accepted.yaml"))
    except SettingsError as error:  # written by an older gateway, or damaged: the release memory does not need it
        log.error(
            "the routing file that was accepted last cannot be read, so edits are not compared with it: %s", error
        )
        return AcceptedText(text)


def validate(
    content: bytes, before: AcceptedText, known: ResolveInput, source: str
) -> tuple[AcceptedText, ResolvedRouting]:
    """The parsed text and the releases that it resolves to. Raises SettingsError."""
    routing = parse_routing(content, source)
    if before.text is not None and is_truncated(before.text, content):
        problems = list(truncation_problems(before.routing, routing, known.stopped))
        if problems:
            raise SettingsError(source, problems)
    return AcceptedText(content, routing), resolve(routing, known, source)


def evidence_of(before: bytes, now: Snapshot, source: str) -> dict[str, object]:
    """The evidence of a decision made by editing the file: the difference, revisions, time and owner."""
    return {
        "difference": shortened_diff(before, now.content, source),
        "before": revision_of(before),
        "after": now.revision,
        "modified_ns": now.modified_ns,
        "owner": now.owner,
    }


def changed_models(before: RoutingSettings, after: RoutingSettings) -> list[str]:
    """The models whose entries differ."""
    return sorted(name for name in {*before.models, *after.models} if before.models.get(name) != after.models.get(name))


def edit_decisions(
    before: RoutingSettings, after: RoutingSettings, notes: Mapping[str, Sequence[str]]
) -> list[EditDecision]:
    """The decisions to record for an edit: one for each model that it concerns, or one for all if they are many or
    none.
    """
    names = changed_models(before, after)
    if 0 < len(names) <= MAX_DECISIONS:
        return [
            _edit_decision(name, before.models.get(name), after.models.get(name), notes.get(name, ())) for name in names
        ]
    reason = f"the entries of {len(names)} models were edited" if names else "nothing but comments or layout was edited"
    return [EditDecision("", 0, reason)]


def _edit_decision(
    name: str, old: ReleaseSettings | None, new: ReleaseSettings | None, notes: Sequence[str]
) -> EditDecision:
    version = (new and (new.candidate or new.stable)) or (old and (old.candidate or old.stable)) or 0
    if old is None or new is None:
        return EditDecision(
            name, version, "; ".join(notes) or f"models.{name}: its entry is {'gone' if old else 'new'}"
        )
    said = [*notes, *_weights(name, old, new)]
    return EditDecision(name, version, "; ".join(said) or f"models.{name}: {', '.join(_keys(old, new))} edited")


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
