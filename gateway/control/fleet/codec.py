"""The fleet's state as bytes in the store: the core document and one record for each member, both JSON."""

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from gateway.control.fleet.store_state import LeaderObject, Member, Note, StoreState, Word


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
    leader = None if state.leader is None else list(state.leader)
    document = {
        "fleet_key": state.fleet_key, "protocol": state.protocol, "lease_ns": state.lease_ns,
        "revision": state.revision, "settled": state.settled, "leader": leader,
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
        core = orjson.loads(stored.core)
        leader = core["leader"]
        return StoreState(
            stored.run_id, core["fleet_key"], core["protocol"], core["lease_ns"], core["revision"], core["settled"],
            {release: Word(*word) for release, word in core["words"].items()}, members,
            None if leader is None else LeaderObject(*leader),
            {release: Note(*note) for release, note in core["notes"].items()},
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        problem = f"the fleet's data in the store is damaged ({type(error).__name__}: {error})"
        raise ValueError(f"{problem}; choose another fleet.name, or delete the data") from None


def _member(record: dict[str, Any]) -> Member:
    candidates = tuple(record["candidates"])
    return Member(record["beat"], record["applied"], record["hold"], record["name"], candidates)
