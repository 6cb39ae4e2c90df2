"""What hosts of neighbouring releases write into the store is read by this one."""

import orjson
import pytest

from gateway.control.fleet.codec import decoded, encoded_core, encoded_member
from gateway.control.fleet.scripts import exchange
from gateway.control.fleet.store import Snapshot
from gateway.control.fleet.store_state import Member, StoreState, Word
from tests.control.fleet.changes import FIRST

STATE = StoreState("run", "key", 1, 3, 7, "run", {"m/2": Word(2, 1)}, {"a": Member(5, 6, False, "a", ("m/2",), 2)})


def stored(core: bytes, **members: bytes) -> Snapshot:
    return Snapshot(True, "run", "tag", core, members)


def test_state_is_read_as_it_was_written() -> None:
    assert decoded(stored(encoded_core(STATE), a=encoded_member(STATE.members["a"]))) == STATE


def test_fields_of_a_later_release_are_left_out_and_a_record_of_the_first_one_has_no_protocol() -> None:
    core = {**orjson.loads(encoded_core(STATE)), "later": {"x": 1}}
    first = {name: value for name, value in STATE.members["a"]._asdict().items() if name != "protocol"}
    found = decoded(stored(orjson.dumps(core), a=orjson.dumps({**first, "later": 1})))
    assert found == STATE._replace(members={"a": STATE.members["a"]._replace(protocol=1)})


@pytest.mark.parametrize("wrong", ["1", None, 1.5, True])
def test_protocol_must_be_a_number(wrong: object) -> None:
    record = {**STATE.members["a"]._asdict(), "protocol": wrong}
    with pytest.raises(ValueError, match="delete the data"):
        decoded(stored(b"", a=orjson.dumps(record)))


def test_host_says_which_protocol_it_speaks() -> None:
    state, _ = exchange(StoreState("run"), FIRST._replace(incarnation="a", protocol=9))
    assert (state.members["a"].protocol, state.protocol) == (9, 9)
