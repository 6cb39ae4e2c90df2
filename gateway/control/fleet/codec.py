"""The fleet's state as bytes in the store: the core document and one record for each member, both JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from gateway.control.fleet.store_state import Member, Note, StoreState, Word, Words

CONSTANTS: Final = (str, int, int, int, str)
WORD: Final = (int, int)
NOTE: Final = (str, str, str, str)
MEMBER: Final = (int, int, bool, str, list, int)


class Stored(Protocol):
    """What `decoded` reads of a snapshot."""

    @property
    def run_id(self) -> str: ...
    @property
    def core(self) -> bytes: ...
    @property
    def members(self) -> Mapping[str, bytes]: ...


def encoded_core(state: StoreState) -> bytes:
    """Everything but the run id, which is the server's, and the members. Equal states give equal bytes."""
    document = {
        "fleet_key": state.fleet_key, "protocol": state.protocol, "lease_ns": state.lease_ns,
        "revision": state.revision, "settled": state.settled,
        "words": {release: list(word) for release, word in state.words.items()},
        "notes": {release: list(note) for release, note in state.notes.items()},
    }  # fmt: skip
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def encoded_member(member: Member) -> bytes:
    """A member's record."""
    return orjson.dumps(member._asdict())


def decoded(stored: Stored) -> StoreState:
    """The state. Raises ValueError, with a remedy, if the data is not a fleet's."""
    try:
        members = {incarnation: _member(orjson.loads(record)) for incarnation, record in stored.members.items()}
        if not stored.core:
            return StoreState(stored.run_id, members=members)
        return _state(stored.run_id, orjson.loads(stored.core), members)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"the fleet's data in the store is damaged ({type(error).__name__}: {error})"
        raise ValueError(f"{problem}; choose another fleet.name, or delete the data") from None


def words_of(found: dict[str, list[Any]]) -> Words:
    """The words of a JSON object. Raises TypeError, ValueError, AttributeError."""
    return {release: Word(*typed(word, WORD)) for release, word in found.items()}


def _state(run_id: str, core: dict[str, Any], members: Mapping[str, Member]) -> StoreState:
    constants = [core[name] for name in ("fleet_key", "protocol", "lease_ns", "revision", "settled")]
    words = words_of(core["words"])
    notes = {release: Note(*typed(note, NOTE)) for release, note in core["notes"].items()}
    return StoreState._make([run_id, *typed(constants, CONSTANTS), words, members, notes])


def _member(record: dict[str, Any]) -> Member:
    """Without what a later release may have added; one of the first release with fleets has no protocol."""
    record = {**Member._field_defaults, **record}
    *fields, candidates, protocol = typed([record[name] for name in Member._fields], MEMBER)
    return Member._make([*fields, tuple(typed(candidates, [str] * len(candidates))), protocol])


def of_protocol(data: bytes, known: int) -> dict[str, Any]:
    """The JSON object, if its `protocol` is the known one. Raises ValueError, TypeError, KeyError."""
    found: dict[str, Any] = orjson.loads(data)
    if found["protocol"] != known:
        raise ValueError(f"it is of protocol {found['protocol']}, this gateway knows {known}")
    return found


def typed(fields: list[Any], types: Sequence[type]) -> list[Any]:
    """The fields, which must be of exactly these types. Raises TypeError, ValueError."""
    for field, wanted in zip(fields, types, strict=True):
        if type(field) is not wanted:
            raise TypeError(f"{field!s:.80} is not of the type {wanted.__name__}")
    return list(fields)
