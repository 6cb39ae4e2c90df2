"""How a limit is split over hosts, and what a host's next step makes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.fleet.rates_split import equal_parts, split, steady
from gateway.control.fleet.rates_state import (
    Entry,
    RateRecord,
    RatesCore,
    decoded_core,
    decoded_record,
    encoded_core,
    encoded_record,
)

DEMANDS = st.dictionaries(st.text(max_size=3), st.integers(0, 10**6), min_size=1, max_size=8)


@given(st.integers(0, 10**6), DEMANDS)
def test_split_gives_away_exactly_what_there_is(available: int, demands: dict[str, int]) -> None:
    shares = split(available, demands)
    assert sum(shares.values()) == available and min(shares.values()) >= 0
    assert split(available, dict(reversed(demands.items()))) == shares, "every host computes the same"


@given(st.integers(0, 10**6), DEMANDS)
def test_host_that_is_asked_for_more_never_gets_less(available: int, demands: dict[str, int]) -> None:
    shares = split(available, demands)
    for one in demands:
        for other in demands:
            assert demands[one] <= demands[other] or shares[one] >= shares[other] - 1


@pytest.mark.parametrize(
    ("demands", "shares"),
    [
        ({"a": 300, "b": 0, "c": 0}, [100, 0, 0]),
        ({"a": 300, "b": 300, "c": 300}, [33, 33, 34]),
        ({"a": 300, "b": 20, "c": 0}, [80, 20, 0]),
        ({"a": 0, "b": 0, "c": 0}, [34, 33, 33]),
        ({"a": 50, "b": 10, "c": 10}, [60, 20, 20]),
    ],
)
def test_hosts_get_what_they_are_asked_for_and_share_the_rest(demands: dict[str, int], shares: list[int]) -> None:
    assert sorted(split(100, demands).values()) == sorted(shares)


@given(st.integers(0, 10**6), st.integers(0, 50))
def test_equal_parts_are_equal_and_complete(total: int, count: int) -> None:
    parts = equal_parts(total, count)
    assert len(parts) == count
    assert not parts or (sum(parts) == total and max(parts) - min(parts) <= 1)


def test_chance_does_not_move_the_published_demand_but_its_end_does() -> None:
    assert [steady(100, now) for now in (100, 112, 88, 113, 87, 0)] == [100, 100, 100, 113, 87, 0]
    assert [steady(1, now) for now in (0, 2, 3)] == [0, 1, 3]
    assert [steady(0, now) for now in (0, 1, 2)] == [0, 0, 2]


def test_records_are_read_as_they_were_written() -> None:
    record = RateRecord(3, "a", 333_333, {"h7/10/1000000000": Entry(4, 5)})
    assert decoded_record(encoded_record(record)) == record
    assert decoded_core(encoded_core(RatesCore("x", "run", True))) == RatesCore("x", "run", True)
    assert decoded_core(b"") == RatesCore()


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b'[1,"a",2,{"k":[1,2]}]', b'[1,"a",2,{"k/1/2":[1]}]', b'[true,"a",2,{}]']
)
def test_damaged_record_is_named_with_a_remedy(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"rates in the store are damaged .*; choose another fleet\.name"):
        decoded_record(data)


def test_other_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="this gateway speaks version 1 of the rates' protocol, the fleet 2"):
        decoded_core(b'["x","run",true,2]')
