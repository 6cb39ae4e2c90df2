"""What the store holds of the routing files: the edits by command in their order, and what each host has in force.

A file itself is never sent: hosts may differ in what an edit does not concern. An edit says how a model's entry was
before it and how it is after it, by fingerprints of the entry as it is written, whatever its comments and layout.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from gateway.control.fleet.codec import of_protocol, typed

PROTOCOL: Final = 1
MOST_KEPT: Final = 16  # edits of a model, for hosts that were away
NOTHING: Final[Mapping[str, Any]] = {}


class RoutingEdit(NamedTuple):
    """By command. `id`: see `new_id`. `before`, `after`: fingerprints of the model's entry. `host`: where it was
    given; `by`, `reason`: for the decision on each host. `route`, `percent`: of a weight. `stable`:
    of an undo, the version that is stable again.
    """

    id: str
    model: str
    candidate: int
    action: str
    route: str
    percent: float
    before: str
    after: str
    by: str
    host: str
    reason: str
    stable: int = 0


class Proposal(NamedTuple):
    """An edit that a host is about to make. Until it is accepted or withdrawn no other one of the model may begin, but
    for one by which the host's `incarnation` is found to have ended. `follows`: id of the model's edit before it, or
    an empty text.
    """

    incarnation: str
    follows: str
    edit: RoutingEdit


class RoutingCore(NamedTuple):
    """By model: its latest accepted edits, the newest last, and the proposal that stands."""

    edits: Mapping[str, tuple[RoutingEdit, ...]] = NOTHING
    proposals: Mapping[str, Proposal] = NOTHING

    def newest(self, model: str) -> str:
        """The id of the model's newest edit, or an empty text."""
        edits = self.edits.get(model, ())
        return edits[-1].id if edits else ""


class RoutingRecord(NamedTuple):
    """A host's. `entries`: fingerprint of each model's entry in force. `applied`: by model, the id of the newest edit
    that is in force or was undone by hand since. `waiting`: why a model's edits are not applied here.
    """

    name: str
    revision: str
    entries: Mapping[str, str] = NOTHING
    applied: Mapping[str, str] = NOTHING
    waiting: Mapping[str, str] = NOTHING


def new_id(number: int, random: str) -> str:
    """Of an edit. Of two edits of a model the later one has the larger number."""
    return f"{number}-{random}"


def number_of(id_: str) -> int:
    """An edit's number; 0 of an empty text and of an edit by the release before, which has none."""
    number, dash, _ = id_.partition("-")
    return int(number) if dash and number.isdecimal() else 0


def fingerprint(entry: Any) -> str:
    """Of a model's entry, as it was parsed from YAML: equal on all hosts and releases of the gateway."""
    try:
        text = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # such as an integer of more than 64 bits
        text = json.dumps(_with_text_keys(entry), sort_keys=True, default=str).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _with_text_keys(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {str(key): _with_text_keys(value) for key, value in entry.items()}
    return [_with_text_keys(item) for item in entry] if isinstance(entry, list) else entry


def encoded_core(core: RoutingCore) -> bytes:
    """As it is stored."""
    document = {
        "protocol": PROTOCOL,
        "edits": {model: [edit._asdict() for edit in edits] for model, edits in core.edits.items()},
        "proposals": {
            model: {"incarnation": one.incarnation, "follows": one.follows, "edit": one.edit._asdict()}
            for model, one in core.proposals.items()
        },
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def decoded_core(data: bytes) -> RoutingCore:
    """Raises ValueError, with a remedy, if the data is damaged or of another protocol."""
    if not data:
        return RoutingCore()
    try:
        found = of_protocol(data, PROTOCOL)
        edits = {model: tuple(_edit(one) for one in of) for model, of in found["edits"].items()}
        proposals = {model: _proposal(one) for model, one in found["proposals"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(error) from None
    return RoutingCore(edits, proposals)


def encoded_record(record: RoutingRecord) -> bytes:
    """As it is stored."""
    return orjson.dumps(record._asdict(), option=orjson.OPT_SORT_KEYS)


def decoded_record(data: bytes) -> RoutingRecord:
    """Raises ValueError, with a remedy, if the data is damaged."""
    try:
        found = orjson.loads(data)
        fields = [found[name] for name in RoutingRecord._fields]
        record = RoutingRecord(*typed(fields, (str, str, dict, dict, dict)))
        for texts in record[2:]:
            typed(list(texts.values()), [str] * len(texts))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(error) from None
    return record


def _proposal(found: dict[str, Any]) -> Proposal:
    incarnation, follows = typed([found["incarnation"], found["follows"]], (str, str))
    return Proposal(incarnation, follows, _edit(found["edit"]))


def _edit(found: dict[str, Any]) -> RoutingEdit:
    fields = [found.get(name, RoutingEdit._field_defaults.get(name)) for name in RoutingEdit._fields]
    fields[5] = float(found["percent"])
    return RoutingEdit(*typed(fields, (str, str, int, str, str, float, str, str, str, str, str, int)))


def _damaged(error: Exception) -> ValueError:
    problem = f"the routing edits in the store cannot be read ({type(error).__name__}: {error})"
    return ValueError(f"{problem}; choose another fleet.name, or delete the data")
