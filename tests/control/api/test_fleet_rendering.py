"""What the API says of a stop in a fleet."""

import pytest

from gateway.control.api.fleet_rendering import confirmation_document
from gateway.control.fleet.confirmation import Confirmation
from gateway.control.fleet.stop_call import StopOutcome


@pytest.mark.parametrize(
    ("outcome", "missing", "problem", "reason"),
    [
        (StopOutcome.CONFIRMED, (), "", None),
        (StopOutcome.HERE_ONLY, (), "timeout", "the fleet's store has not taken it: timeout"),
        (StopOutcome.HERE_ONLY, (), "", "the fleet's store has not taken it"),
        (StopOutcome.WAITING, ("b:8000",), "", "b:8000 has not confirmed it yet"),
        (StopOutcome.WAITING, ("b", "c"), "", "b, c have not confirmed it yet"),
        (StopOutcome.WAITING, (), "", "the fleet's store is new or slow, or a send is in progress here"),
        (StopOutcome.RESUMED, (), "", "it was resumed meanwhile"),
        (StopOutcome.UNCONFIRMED, ("c",), "timeout",
         "c has not confirmed it, and goes on without contact (fleet.when_lost: hold)"),
        (StopOutcome.UNCONFIRMED, ("c", "d"), "",
         "c, d have not confirmed it, and go on without contact (fleet.when_lost: hold)"),
    ],
)  # fmt: skip
def test_reason_why_a_stop_is_not_confirmed(
    outcome: StopOutcome, missing: tuple[str, ...], problem: str, reason: str | None
) -> None:
    document = confirmation_document(Confirmation(outcome, 1, missing, 8.25), problem)
    assert document["confirmed"] is (reason is None)
    assert (document["outcome"], document["missing"], document["ms"]) == (outcome.value, list(missing), 8.25)
    assert document["reason"] == reason
