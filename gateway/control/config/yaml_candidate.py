"""Names a model's candidate in the text of the routing file, with a route to it if the release has none."""

from decimal import Decimal
from typing import Any, Final

import yaml

from gateway.control.config.yaml_edit import (
    checked,
    document_of,
    end_of,
    entries_of,
    line_end,
    lines_of,
    replaced,
    span_of,
)
from gateway.errors import SettingsError
from gateway.settings.guards import RampSettings
from gateway.settings.scalars import read
from gateway.settings.units import parse_ppm

EVERYONE: Final = "everyone"  # the route made for a candidate that has none
RAMP: Final = "ramp"
Insertion = tuple[int, int, str]
Weight = float | str


def name_candidate(
    text: str, model: str, *, stable: int, candidate: int, weight: Weight | None = None, source: str = "routing.yaml"
) -> str:
    """`text` with `candidate` as `model`'s candidate. Raises SettingsError if that cannot be done exactly.

    `weight`: of the route `everyone`, in percent, or `ramp`, which gets the default ramp if the release has none; None:
    an existing split stays as it is, and a release without routes gets the route with weight 0. `stable`: of a model
    without an entry, which gets one.
    """
    share = None if weight is None else weight if weight == RAMP else _percent(weight, source)
    models = entries_of(yaml.compose(text, yaml.CSafeLoader)).get("models")
    entry = entries_of(models[1]).get(model) if models else None
    if entry is None:
        release: dict[str, Any] = {"stable": stable, "candidate": candidate, "split": _split(share)}
        return add_entry(text, model, release | (_default_ramp() if share == RAMP else {}), source)
    meant = document_of(text, source)
    insertions = _release_insertions(text, model, entry[1], candidate, share, meant["models"][model], source)
    return checked(replaced(text, insertions), meant, source)


def add_entry(text: str, model: str, release: Any, source: str = "routing.yaml") -> str:
    """`text` with an entry for a model that has none. Raises SettingsError if that cannot be done exactly."""
    meant = document_of(text, source) or {}
    meant["models"] = {**(meant.get("models") or {}), model: release}
    root = yaml.compose(text, yaml.CSafeLoader)
    models = entries_of(root).get("models")
    if models is not None and isinstance(models[1], yaml.MappingNode):
        insertion = _insertion(text, models[1], {model: release})
    elif models is not None:  # `models:` without a value
        insertion = (*span_of(models[1]), _below(text, {model: release}))
    elif isinstance(root, yaml.MappingNode) and root.value:
        insertion = _insertion(text, root, {"models": {model: release}})
    else:
        insertion = _whole(text, root, {"models": {model: release}})
    return checked(replaced(text, [insertion]), meant, source)


def _release_insertions(
    text: str, model: str, node: yaml.Node, candidate: int, share: Weight | None, release: Any, source: str
) -> list[Insertion]:
    """The edits of an existing entry; also makes them in `release`, what the entry is meant to say."""
    entries, insertions, new = entries_of(node), [], dict[str, Any]()
    spelt = "canary" if "canary" in entries else "candidate"
    if "stable" not in entries or not isinstance(node, yaml.MappingNode):
        raise SettingsError(source, [f"models.{model} does not name stable itself; edit it by hand"])
    if spelt in entries:
        begin, end = span_of(entries[spelt][1])
        insertions.append((begin, end, f"{candidate}" if end > begin else f" {candidate}"))
    else:
        new[spelt] = candidate
    release[spelt] = candidate
    if "split" not in entries:
        new["split"] = release["split"] = _split(share)
    else:
        insertions += _split_insertions(text, entries["split"][1], share, release["split"])
    if share == RAMP and release.get("ramp") is None:
        if "ramp" in entries:
            raise SettingsError(source, [f"models.{model}.ramp is null; write its steps, or remove the key"])
        new |= _default_ramp()
        release |= _default_ramp()
    if new:
        insertions.append(
            _insertion(
                text, node, new, after="split" if "split" in entries else spelt if spelt in entries else "stable"
            )
        )
    return insertions


def _split_insertions(text: str, node: yaml.Node, share: Weight | None, split: Any) -> list[Insertion]:
    routes = entries_of(node).get("routes")
    if routes is None or not split.get("routes"):
        split["routes"] = _split(share)["routes"]
        if not isinstance(node, yaml.MappingNode):
            return []  # refused as not exact
        if routes is None:
            return [_insertion(text, node, {"routes": split["routes"]})]
        return [(*span_of(routes[1]), _flow(split["routes"]))]
    if share is None:
        return []
    for position, route in enumerate(routes[1].value):
        entries = entries_of(route)
        if "name" in entries and entries["name"][1].value == EVERYONE and "weight" in entries:
            split["routes"][position]["weight"] = share
            return [(*span_of(entries["weight"][1]), f"{share}")]
    assert isinstance(routes[1], yaml.SequenceNode), "of a file that is in force"
    split["routes"].append(new := _split(share)["routes"][0])
    return [_insertion(text, routes[1], new)]


def _insertion(text: str, node: yaml.CollectionNode, new: Any, after: str = "") -> Insertion:
    """Insert entries into a mapping, after the key `after` or at its end; or one item at the end of a sequence."""
    members = node.value
    if node.flow_style or not members:
        end = node.end_mark.index - 1 if not members else _member(members, after)[1].end_mark.index
        return end, end, (", " if members else "") + _flow(new)[slice(None) if _is_list(node) else slice(1, -1)]
    key, value = _member(members, after)
    if _is_list(node):
        end, column, new = line_end(text, end_of(text, value)), node.start_mark.column, [new]
    else:
        end, column = lines_of(text, key, value)[1], members[0][0].start_mark.column
    return end, end, _lead(text, end) + _block(text, new, column)


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)


def _member(members: Any, after: str) -> tuple[yaml.Node, yaml.Node]:
    """The mapping's entry of key `after`, else the last; an item of a sequence counts as key and value."""
    last = members[-1]
    if not after:
        return last if isinstance(last, tuple) else (last, last)
    found: tuple[yaml.Node, yaml.Node] = next(entry for entry in members if entry[0].value == after)
    return found


def _below(text: str, new: Any) -> str:
    """The value of a key at the margin that has had none."""
    return _newline(text) + _block(text, new, 2).removesuffix(_newline(text))


def _whole(text: str, root: yaml.Node | None, new: Any) -> Insertion:
    """The insertion that makes a document of one that holds nothing, perhaps `{}`, and comments."""
    if root is not None and root.end_mark.index > root.start_mark.index:
        return (*span_of(root), _block(text, new, 0).removesuffix(_newline(text)))
    return len(text), len(text), _lead(text, len(text)) + _block(text, new, 0)


def _lead(text: str, position: int) -> str:
    """A line end, if the text before has none."""
    return "" if not position or text[position - 1] == "\n" else _newline(text)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _split(share: Weight | None) -> dict[str, Any]:
    return {"routes": [{"name": EVERYONE, "weight": 0 if share is None else share}]}


def _default_ramp() -> dict[str, Any]:
    ramp = RampSettings()
    weights = [int(weight) if weight == int(weight) else float(weight) for weight in ramp.weights]
    return {RAMP: {"weights": weights, "interval": f"{ramp.interval / 60:g}m", "advance": ramp.advance}}


def _percent(weight: Weight, source: str) -> Any:
    try:
        return read(f"{Decimal(parse_ppm(weight)) / 10_000:f}")
    except ValueError as error:
        raise SettingsError(source, [f"weight: {error}"]) from None


class _Dumper(yaml.SafeDumper):
    """Indents the items of lists, as people do, and writes lists of numbers on one line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _list(dumper: yaml.SafeDumper, items: Any) -> yaml.Node:
    numbers = not any(isinstance(item, dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=numbers)


_Dumper.add_representer(list, _list)
_Dumper.add_multi_representer(int, lambda dumper, number: dumper.represent_int(int(number)))
_Dumper.add_multi_representer(float, lambda dumper, number: dumper.represent_float(float(number)))


def _block(text: str, new: Any, column: int) -> str:
    lines = yaml.dump(new, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=1000).splitlines()
    indent = " " * column
    return "".join(f"{indent}{line}{_newline(text)}" for line in lines)


def _flow(new: Any) -> str:
    if isinstance(new, list):
        return f"[{', '.join(map(_flow, new))}]"
    return yaml.dump(new, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=1000).strip()
