"""Failure events as bytes: packed by a worker, unpacked by control."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shm.failure_events import SIZE, FailureEvent, FailureKind, unpack_all

EVENTS = st.builds(
    FailureEvent,
    time_ns=st.integers(0, 2**63 - 1),
    slot=st.integers(0, 1023),
    epoch=st.integers(1, 2**31 - 1),
    weight_ppm=st.integers(0, 1_000_000),
    candidate=st.booleans(),
    kind=st.sampled_from(FailureKind),
    key=st.none() | st.integers(0, 999_999),
)


@given(st.lists(EVENTS))
def test_packed_events_are_unpacked_unchanged(events: list[FailureEvent]) -> None:
    packed = b"".join(event.pack() for event in events)
    assert len(packed) == SIZE * len(events)
    assert unpack_all(packed) == unpack_all(memoryview(packed)) == events


def test_truncated_event_is_refused() -> None:
    packed = FailureEvent(1, 2, 3, 4, True, FailureKind.FAILURE, None).pack()
    with pytest.raises(ValueError, match="31 bytes are no whole number"):
        unpack_all(packed[:-1])
