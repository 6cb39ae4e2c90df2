"""Failure events as bytes: packed by a worker, unpacked by control."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shm.failure_events import NO_ROUTE, SIZE, FailureEvent, FailureKind, route_id, unpack_all

EVENTS = st.builds(
    FailureEvent,
    time_ns=st.integers(0, 2**63 - 1),
    slot=st.integers(0, 1023),
    epoch=st.integers(1, 2**31 - 1),
    weight_ppm=st.integers(0, 1_000_000),
    candidate=st.booleans(),
    kind=st.sampled_from(FailureKind),
    key=st.none() | st.integers(0, 999_999),
    route=st.just(NO_ROUTE) | st.text().map(route_id),
)


@given(st.lists(EVENTS))
def test_packed_events_are_unpacked_unchanged(events: list[FailureEvent]) -> None:
    packed = b"".join(event.pack() for event in events)
    assert len(packed) == SIZE * len(events)
    assert unpack_all(packed) == unpack_all(memoryview(packed)) == events


def test_event_of_a_gateway_that_knew_no_routes_is_of_no_known_one() -> None:
    packed = struct.pack("<qiiiiB7x", 1, 2, 3, 50_000, 77, 3)
    assert unpack_all(packed) == [FailureEvent(1, 2, 3, 50_000, True, FailureKind.SLOW, 77, NO_ROUTE)]


def test_ids_of_routes_are_known_of_an_unknown_one_and_of_each_other() -> None:
    names = [f"route {number}" for number in range(1000)]
    assert len({NO_ROUTE, *map(route_id, names)}) == 1001
    assert route_id("everyone") == 983_566_612, "the same on all hosts, in all releases"


def test_truncated_event_is_refused() -> None:
    packed = FailureEvent(1, 2, 3, 4, True, FailureKind.FAILURE, None).pack()
    with pytest.raises(ValueError, match="31 bytes are no whole number"):
        unpack_all(packed[:-1])
