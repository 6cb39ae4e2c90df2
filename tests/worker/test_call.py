"""The deadlines of a prediction that has waited before it began."""

import pytest

from gateway.worker.call import Call

MS = 1_000_000


@pytest.mark.parametrize(
    ("timeout_ms", "candidate_ms", "waited_ms", "left_ms", "fair"),
    [
        (10_000, 1_000, 250, 1_000, True),  # stable has enough time all the same
        (1_000, 800, 250, 550, False),
        (1_000, 800, 4, 800, True),  # the margin covers it
        (1_000, 300, 500, 250, False),
        (1_000, 0, 250, 0, True),  # the candidate does not run
        (100, 80, 100, 1, False),  # none is left
    ],
)
def test_what_a_prediction_has_waited_is_taken_off_its_deadlines(
    timeout_ms: int, candidate_ms: int, waited_ms: int, left_ms: int, fair: bool
) -> None:
    call = Call.__new__(Call)
    call.started_ns, call.deadline_ns = 5 * MS, (5 + timeout_ms) * MS
    call.candidate_timeout_ns, call.timeout_is_fair = candidate_ms * MS, True
    call.spend(waited_ms * MS)
    assert call.deadline_ns == (5 + timeout_ms - waited_ms) * MS
    assert (max(1, call.candidate_timeout_ns // MS) if candidate_ms else call.candidate_timeout_ns) == left_ms
    assert call.timeout_is_fair is fair
