"""Which address a call goes to."""

import pytest

from gateway.backends.remote.addresses import EJECT_AFTER, Address, Addresses


def address(url: str, in_flight: int = 0, *, ejected: bool = False) -> Address:
    one = Address(url, b"")
    one.in_flight = in_flight
    for _ in range(EJECT_AFTER if ejected else EJECT_AFTER - 1):
        one.failed()
    return one


@pytest.mark.parametrize(
    ("there", "patient", "chosen"),
    [
        ([address("a")], False, "a"),
        ([address("a", 9)], True, "a"),
        ([address("a", ejected=True)], False, None),
        ([address("a", ejected=True)], True, "a"),
        ([address("a", 2), address("b", 1)], False, "b"),
        ([address("a", 2), address("b", 1, ejected=True)], False, "a"),
        ([address("a", 2), address("b", 1, ejected=True)], True, "a"),
        ([address("a", 2, ejected=True), address("b", 1, ejected=True)], False, None),
        ([address("a", 2, ejected=True), address("b", 1, ejected=True)], True, "b"),
    ],
)
def test_fewest_in_flight_of_those_that_may_be_asked(there: list[Address], patient: bool, chosen: str | None) -> None:
    found = Addresses(there).choose(patient=patient)
    assert (found and found.url) == chosen


@pytest.mark.parametrize("patient", [False, True])
def test_the_excluded_one_is_not_chosen(patient: bool) -> None:
    one, other = address("a"), address("b", 5)
    assert Addresses([one]).choose((one,), patient=patient) is None
    assert Addresses([one, other]).choose((one,), patient=patient) is other


def test_equals_are_asked_in_turn() -> None:
    addresses = Addresses([address("a"), address("b"), address("c")])
    found = [addresses.choose() for _ in range(6)]
    assert sorted(one.url for one in found[:3] if one) == ["a", "b", "c"]
    assert found[:3] == found[3:]
