"""A host's share of each rate limit, as its workers apply it."""

from pathlib import Path

import numpy as np
import pytest

from gateway.auth.fleet_rate_limit import attach_fleet_rate_limiter, create_rate_shares, quotas_of
from gateway.auth.rate_limit import create_rate_counters
from gateway.errors import RateExceeded, SettingsError
from gateway.settings.gateway import RateSettings
from gateway.shm.rate_counters import ROW_PLACES
from gateway.shm.rate_shares import RateShares
from gateway.shm.scoreboard import HEAD, SHED_RATE

S = 1_000_000_000
NOW = 5_000 * S
RATE = RateSettings.model_validate({"default": "50/s", "customers": {"acme": "100/s", "slow": "6/m"}})


class Host:
    """Two workers and control's shares."""

    def __init__(self, folder: Path, rate: RateSettings = RATE) -> None:
        board = folder / "board.scoreboard"
        create_rate_counters(rate, board, 2)
        shares = create_rate_shares(rate, board, 2)
        assert shares is not None
        self.shares = shares
        self.heads = [memoryview(bytearray(8 * HEAD)).cast("q") for _ in range(2)]
        self.limiters = [attach_fleet_rate_limiter(rate, board, 2, worker, self.heads[worker]) for worker in range(2)]

    def put(self, share: int) -> None:
        """The same of all limits."""
        self.shares.put(np.full(self.shares.quotas, share, np.int64))

    def asked(self, customer: str | None, count: int) -> int:
        """How many of so many requests to the workers in turn are admitted."""
        admitted = 0
        for number in range(count):
            limiter = self.limiters[number % 2]
            assert limiter is not None
            try:
                limiter.admit(customer, NOW)
            except RateExceeded:
                continue
            admitted += 1
        return admitted


def test_share_in_force_is_admitted_and_no_more(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.asked("acme", 5) == 0, "before control has given a share"
    host.put(7)
    assert [host.asked(name, 40) for name in ("acme", "slow", "joe", None)] == [7] * 4
    host.put(9)
    assert host.asked("acme", 40) == 2, "at once, in the same window"
    host.put(3)
    assert host.asked("acme", 40) == 0


def test_refusals_are_counted_by_limit_and_worker(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.put(1)
    host.asked("acme", 5)
    host.asked("joe", 3)
    refused = host.shares.refused()
    assert refused[0] == 4 and refused[1] == 0 and refused[2:].sum() == 2
    assert [head[SHED_RATE] for head in host.heads] == [3, 3]


def test_refusal_names_the_customers_limit_not_the_hosts_share(tmp_path: Path) -> None:
    host = Host(tmp_path)
    limiter = host.limiters[0]
    assert limiter is not None
    with pytest.raises(RateExceeded, match="more than 100 requests per second") as refused:
        limiter.admit("acme", NOW)
    assert refused.value.headers["retry-after"] == "1"
    host.put(1)
    limiter.admit("slow", NOW)
    with pytest.raises(RateExceeded, match=r"more than 0\.1 requests per second") as refused:
        limiter.admit("slow", NOW)
    assert int(refused.value.headers["retry-after"]) > 10


def test_window_holds_at_least_ten_requests(tmp_path: Path) -> None:
    acme, slow, *others = quotas_of(RATE)
    assert (acme.limit, acme.window_ns) == (100, S)
    assert (slow.limit, slow.window_ns) == (10, 100 * S)
    assert len(others) == ROW_PLACES and {(one.limit, one.window_ns) for one in others} == {(50, S)}


def test_without_limits_there_are_no_shares(tmp_path: Path) -> None:
    board = tmp_path / "board.scoreboard"
    assert create_rate_shares(RateSettings(), board, 2) is None
    assert attach_fleet_rate_limiter(RateSettings(), board, 2, 0, memoryview(bytearray())) is None
    assert quotas_of(RateSettings()) == []


def test_customer_without_a_rate_is_unlimited_when_there_is_no_default(tmp_path: Path) -> None:
    host = Host(tmp_path, RateSettings.model_validate({"customers": {"acme": "1/s"}}))
    assert host.asked("joe", 50) == 50
    assert host.asked("acme", 50) == 0


def test_shares_made_for_other_workers_are_refused(tmp_path: Path) -> None:
    RateShares.create(tmp_path / "shares", 2, 5)
    with pytest.raises(SettingsError, match="version of the gateway"):
        RateShares.attach(tmp_path / "shares", 3, 5)
