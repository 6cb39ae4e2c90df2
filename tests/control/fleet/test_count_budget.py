"""How many requests a host has counted in the store, and what is said if there are more."""

import pytest

from gateway.control.fleet.count_budget import CALM_NS, MOST_COUNTS, CountBudget

NOW = 10**15


def test_what_is_beyond_the_budget_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    budget = CountBudget()
    for tick in range(3):
        budget.renew()
        taken = [budget.take(NOW + tick) for _ in range(MOST_COUNTS + 1)]
        assert taken == [True] * MOST_COUNTS + [False]
    assert (budget.counted, budget.overflows) == (3 * MOST_COUNTS, 3)
    assert [record.message.startswith("fleet: more than 64 requests") for record in caplog.records] == [True]
    assert not budget.take(NOW + 2 + CALM_NS - 1) and len(caplog.records) == 1, "it goes on"
    assert not budget.take(NOW + 2 + 2 * CALM_NS) and len(caplog.records) == 2
