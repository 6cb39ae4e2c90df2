"""Edits the text of the routing file as a person would: only the bytes of the edit change.

The YAML parser gives the positions to change. The document is not re-emitted, as round-trip emitters do: they move
comments, quotes and line breaks that the edit does not concern. The edited text is parsed again and compared with the
intended document before it is returned: an edit is either exact or refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import unified_diff
from typing import Any, Final

import yaml

from gateway.errors import SettingsError
from gateway.settings.document import parse_yaml
from gateway.settings.routing_file import parse_routing
from gateway.settings.scalars import read
from gateway.settings.units import parse_ppm

CANDIDATE_KEYS: Final = ("candidate", "canary", "split")
PROMOTE, UNDO, WEIGHT = "promote", "undo-promote", "weight"
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RoutingChange:
    """A change of one model's entry. `action`: PROMOTE, UNDO or WEIGHT. `route`, `percent`: of a weight. `stable`: of
    an undo, the version that is stable again. `keep_routes`: a promotion keeps them as a comment. `versions`: stable
    and candidate in the text that is changed; None: any, as in a host's edit that another checks by fingerprints.
    """

    action: str
    model: str
    route: str = ""
    percent: float = 0.0
    stable: int = 0
    keep_routes: bool = False
    versions: tuple[int, int | None] | None = None

    def made(self, text: str, source: str = "routing.yaml") -> str:
        """`text` with the change. Raises SettingsError, also for an action of a later release."""
        if self.versions is not None:  # an edit that is being applied, or that came into force since
            refuse_other_release(text, self.model, stable=self.versions[0], candidate=self.versions[1], source=source)
        if self.action == PROMOTE:
            return promote(text, self.model, source, keep_routes=self.keep_routes)
        if self.action == UNDO:
            return set_stable(text, self.model, self.stable, source)
        if self.action == WEIGHT:
            return set_weight(text, self.model, self.route, self.percent, source)
        raise SettingsError(source, [f"this release of the gateway has no edit '{self.action}'"])


def refuse_other_release(
    text: str, model: str, *, stable: int, candidate: int | None, source: str = "routing.yaml"
) -> None:
    """Raise SettingsError if `text` names other versions of `model`: an edit that came first, perhaps of a candidate
    that nobody has asked to replace.
    """
    release = parse_routing(text.encode(), source).models.get(model)
    if release is not None and (release.stable, release.candidate) != (stable, candidate):
        raise SettingsError(
            source, [f"models.{model} has just been changed by another edit; look at it, and try again"]
        )


def promote(text: str, model: str, source: str = "routing.yaml", *, keep_routes: bool = False) -> str:
    """`text` with `model`'s candidate as its stable version. Raises SettingsError if that cannot be done exactly.

    `candidate` and `split` are removed: they say which requests go to which version, and the schema refuses routes that
    lead nowhere. With `keep_routes` the split stays as a comment. `ramp`, `mirror`, `rescue` and `guards` stay: they
    say how any candidate is treated. Comments stay, except those inside what is removed.
    """
    release_node = _release(text, model, source)
    entries = entries_of(release_node)
    candidate = entries.get("candidate") or entries.get("canary")
    if candidate is None or "stable" not in entries:
        raise SettingsError(source, [f"models.{model} does not name both stable and candidate itself; edit it by hand"])
    spans = [(*span_of(entries["stable"][1]), candidate[1].value)]
    if keep_routes and "split" in entries:
        if release_node.flow_style:  # type: ignore[attr-defined]
            raise SettingsError(
                source, [f"models.{model} is written in one line, {{…}}: its routes cannot stay as a comment"]
            )
        begin, end = lines_of(text, *entries["split"])
        spans.append((begin, end, _commented(text[begin:end], entries["split"][0].start_mark.column)))
        spans += [(*span, "") for span in _removals(text, release_node, CANDIDATE_KEYS[:2])]
    else:
        spans += [(*span, "") for span in _removals(text, release_node, CANDIDATE_KEYS)]
    meant = document_of(text, source)
    before = meant["models"][model]
    release = {key: value for key, value in before.items() if key not in CANDIDATE_KEYS}
    meant["models"] = {**meant["models"], model: {**release, "stable": before[candidate[0].value]}}
    return checked(replaced(text, spans), meant, source)


def set_stable(text: str, model: str, version: int, source: str = "routing.yaml") -> str:
    """`text` with another stable version of `model`. Raises SettingsError if that cannot be done exactly."""
    entries = entries_of(_release(text, model, source))
    if "stable" not in entries:
        raise SettingsError(source, [f"models.{model} does not name stable itself; edit it by hand"])
    meant = document_of(text, source)
    meant["models"][model]["stable"] = version
    return checked(replaced(text, [(*span_of(entries["stable"][1]), str(version))]), meant, source)


def remove_entries(text: str, models: tuple[str, ...], source: str = "routing.yaml") -> str:
    """`text` without the entries of these models; another must stay. Raises SettingsError if that cannot be done
    exactly.
    """
    meant = document_of(text, source)
    meant["models"] = {name: entry for name, entry in meant["models"].items() if name not in models}
    _, entries = entries_of(yaml.compose(text, yaml.CSafeLoader))["models"]
    return checked(replaced(text, [(*span, "") for span in _removals(text, entries, models)]), meant, source)


def restore_entry(text: str, before: str, model: str, source: str = "routing.yaml") -> str:
    """`text` with `model`'s entry as in `before`, the text before its promotion. Raises SettingsError if the
    entry, with the comments in it, is not what a promotion makes of that.
    """
    entry = text[slice(*_entry_span(text, model, source))].rstrip("\r\n")  # the last entry may end with the file
    if not any(entry == _promoted_entry(before, model, source, keep_routes) for keep_routes in (False, True)):
        raise SettingsError(
            source,
            [
                f"models.{model} was edited since the promotion, comments included, so its routes cannot be brought"
                " back; undo it without them (--drop-routes), or edit it by hand"
            ],
        )
    return replace_entry(text, before, model, source)


def replace_entry(text: str, other: str, model: str, source: str = "routing.yaml") -> str:
    """`text` with `model`'s entry, and the comments in it, as in the `other` one. Raises SettingsError."""
    here, there = _entry_span(text, model, source), _entry_span(other, model, source)
    entry = text[slice(*here)].rstrip("\r\n")  # the last entry may end with the file
    meant = document_of(text, source)
    meant["models"][model] = document_of(other, source)["models"][model]
    end = text[here[0] + len(entry) : here[1]]
    return checked(replaced(text, [(*here, other[slice(*there)].rstrip("\r\n") + end)]), meant, source)


def set_weight(text: str, model: str, route: str, percent: float, source: str = "routing.yaml") -> str:
    """`text` with a new weight, in percent, on one of `model`'s routes. Raises SettingsError."""
    try:
        weight = f"{Decimal(parse_ppm(percent)) / 10_000:f}"
    except ValueError as error:
        raise SettingsError(source, [f"weight: {error}"]) from None
    split = entries_of(_release(text, model, source)).get("split")
    routes = entries_of(split[1]).get("routes") if split else None
    meant = document_of(text, source)
    for position, node in enumerate(routes[1].value if routes else ()):
        entries = entries_of(node)
        if "name" in entries and entries["name"][1].value == route and "weight" in entries:
            meant["models"][model]["split"]["routes"][position]["weight"] = read(weight)
            return checked(replaced(text, [(*span_of(entries["weight"][1]), weight)]), meant, source)
    there = [route["name"] for route in (meant["models"][model].get("split") or {}).get("routes", ())]
    raise SettingsError(
        source, [f"models.{model} has no route '{route}'; it has {', '.join(map(str, there)) or 'no routes'}"]
    )


def difference(before: str, after: str, name: str) -> str:
    """A unified diff; empty if nothing changed."""
    lines = unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), name, name)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def document_of(text: str, source: str) -> Any:
    """The parsed text, without shared objects. Raises SettingsError."""
    return _unshared(parse_yaml(text, source))


def _unshared(document: Any) -> Any:
    """A deep copy in which aliases no longer share objects, so that a change affects one place only."""
    if isinstance(document, dict):
        return {key: _unshared(value) for key, value in document.items()}
    return [_unshared(item) for item in document] if isinstance(document, list) else document


def _release(text: str, model: str, source: str) -> yaml.Node:
    """The mapping that describes `model`."""
    document_of(text, source)
    models = entries_of(yaml.compose(text, yaml.CSafeLoader)).get("models")
    entries = entries_of(models[1]) if models else {}
    if model not in entries:
        raise SettingsError(
            source, [f"models has no '{model}': it is served without an entry; add one to the file first"]
        )
    return entries[model][1]


def _entry_span(text: str, model: str, source: str) -> Span:
    """The entry of `model` with its key, and with the comments inside it."""
    _release(text, model, source)
    models = entries_of(yaml.compose(text, yaml.CSafeLoader))["models"][1]
    key, value = entries_of(models)[model]
    return (key.start_mark.index, value.end_mark.index) if models.flow_style else lines_of(text, key, value)  # type: ignore[attr-defined]


def _promoted_entry(before: str, model: str, source: str, keep_routes: bool) -> str | None:
    try:
        text = promote(before, model, source, keep_routes=keep_routes)
    except SettingsError:  # routes in one line cannot be kept
        return None
    return text[slice(*_entry_span(text, model, source))].rstrip("\r\n")


def _commented(lines: str, column: int) -> str:
    """These lines as comments that begin at `column`. Those that begin before it are comments already."""
    return "".join(
        f"{line[:column]}# {line[column:]}" if line.strip() and not line[:column].strip() else line
        for line in lines.splitlines(keepends=True)
    )


def entries_of(node: yaml.Node | None) -> Mapping[str, tuple[yaml.Node, yaml.Node]]:
    """A mapping's key and value nodes, by key; empty if the node is no mapping."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): (key, value) for key, value in node.value}


def _removals(text: str, mapping: yaml.Node, keys: tuple[str, ...]) -> Iterator[Span]:
    """The spans to remove for the entries of `keys`, so that a valid mapping remains."""
    entries = list(mapping.value)
    kept = [key.value not in keys for key, _ in entries]
    for index, (key, value) in enumerate(entries):
        if kept[index]:
            continue
        if not mapping.flow_style:  # type: ignore[attr-defined]
            yield lines_of(text, key, value)
        elif any(kept[:index]):
            yield entries[index - 1][1].end_mark.index, value.end_mark.index
        else:
            yield key.start_mark.index, entries[index + 1][0].start_mark.index


def lines_of(text: str, key: yaml.Node, value: yaml.Node) -> Span:
    """The lines of a block entry, including the comments inside it, which are indented deeper than its key."""
    begin = text.rfind("\n", 0, key.start_mark.index) + 1
    end = line_end(text, end_of(text, value))
    inside = end
    while inside < len(text):
        after = line_end(text, inside)
        line = text[inside:after]
        indent = len(line) - len(line.lstrip(" "))
        if line.strip() and not (line.lstrip().startswith("#") and indent > key.start_mark.column):
            break
        inside = after
        if line.strip():
            end = inside
    return begin, end


def line_end(text: str, position: int) -> int:
    """The position after the line that holds `position`."""
    newline = text.find("\n", position)
    return len(text) if newline < 0 else newline + 1


def end_of(text: str, node: yaml.Node) -> int:
    """The end of a value's last character; a block node's own end mark is only where the next token begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return end_of(text, last[1] if isinstance(last, tuple) else last)
    begin, end = span_of(node)
    return begin + len(text[begin:end].rstrip())


def span_of(node: yaml.Node) -> Span:
    """Where the parser says that a node begins and ends."""
    return node.start_mark.index, node.end_mark.index


def replaced(text: str, spans: list[tuple[int, int, str]]) -> str:
    """`text` with each span, given as begin and end, replaced by its new text."""
    for begin, end, new in sorted(spans, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def checked(text: str, meant: Any, source: str) -> str:
    """`text`, if it says what is `meant`. Raises SettingsError."""
    try:
        exact = parse_yaml(text, source) == meant
    except SettingsError:
        exact = False
    if not exact:
        raise SettingsError(
            source,
            ["cannot be edited automatically because of how it is written (anchors or merges?); edit it by hand"],
        )
    return text
