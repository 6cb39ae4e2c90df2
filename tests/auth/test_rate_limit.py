"""Rate limits per customer across several workers, on a fake clock."""

import random
from pathlib import Path

import pytest

from gateway.auth.rate_limit import RateLimiter, attach_rate_limiter, create_rate_counters, quota_of, wait_ns
from gateway.errors import RateExceeded, SettingsError
from gateway.settings.gateway import RateSettings
from gateway.shm.rate_counters import RateCounters
from gateway.shm.scoreboard import HEAD, SHED_RATE

S = 1_000_000_000
START = 5_000 * S + 123_456_789  # in the middle of a window


class Fleet:
    """Several workers that share one set of counters, and a clock."""

    def __init__(self, folder: Path, workers: int = 2, **settings: object) -> None:
        rate = RateSettings.model_validate(settings)
        board = folder / "board.scoreboard"
        self.book = create_rate_counters(rate, board, workers)
        self.heads = [memoryview(bytearray(8 * HEAD)).cast("q") for _ in range(workers)]
        self.workers: list[RateLimiter] = []
        for worker, head in enumerate(self.heads):
            rates = attach_rate_limiter(rate, board, workers, worker, head)
            assert rates is not None
            self.workers.append(rates)
        self.now_ns = START

    def ask(self, customer: str | None, worker: int = 0) -> bool:
        try:
            self.workers[worker].admit(customer, self.now_ns)
        except RateExceeded:
            return False
        return True

    def offered(self, customer: str | None, per_s: float, seconds: float, workers: int = 2) -> int:
        """How many of evenly spaced requests, each to a random worker, are admitted."""
        generator = random.Random(1)
        admitted = 0
        for _ in range(round(per_s * seconds)):
            self.now_ns += round(S / per_s)
            admitted += self.ask(customer, generator.randrange(workers))
        return admitted


def test_no_counters_are_created_without_a_configured_rate(tmp_path: Path) -> None:
    assert create_rate_counters(RateSettings(), tmp_path / "board.scoreboard", 2) is None
    assert attach_rate_limiter(RateSettings(), tmp_path / "board.scoreboard", 2, 0, memoryview(bytearray())) is None


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("offered", [150, 1_000])
def test_customer_gets_its_rate_whichever_workers_it_reaches(tmp_path: Path, workers: int, offered: int) -> None:
    fleet = Fleet(tmp_path, workers, customers={"acme": "100/s"})
    assert fleet.offered("acme", offered, 1, workers) <= 200, "at most two windows' worth at once"
    assert fleet.offered("acme", offered, 10, workers) == pytest.approx(1_000, rel=0.02)


@pytest.mark.parametrize(("rate", "per_s"), [("1/s", 1), ("3/s", 3), ("90/m", 1.5), ("6/m", 0.1), ("2500/s", 2500)])
def test_any_rate_is_met_in_the_long_run(tmp_path: Path, rate: str, per_s: float) -> None:
    fleet = Fleet(tmp_path, customers={"acme": rate})
    seconds = max(20, round(20 / per_s))
    assert fleet.offered("acme", 4 * per_s, seconds) == pytest.approx(per_s * seconds, rel=0.06)


def test_customer_below_its_rate_is_never_refused(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, customers={"acme": "100/s"})
    assert fleet.offered("acme", 99, 30) == 99 * 30


def test_requests_to_all_workers_count_together(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 4, customers={"acme": "10/s"})
    assert [sum(fleet.ask("acme", worker) for _ in range(4)) for worker in range(4)] == [4, 4, 2, 0]
    assert [head[SHED_RATE] for head in fleet.heads] == [0, 0, 2, 4]


def test_default_rate_applies_to_each_customer_separately(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, default="5/s", customers={"big": "50/s"})
    names = ["a", "b", None, "résumé:客户", "\udcff"]
    assert [sum(fleet.ask(name) for _ in range(20)) for name in names] == [5] * 5
    assert sum(fleet.ask("big") for _ in range(100)) == 50


def test_customer_without_a_rate_is_unlimited_when_there_is_no_default(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, customers={"acme": "1/s"})
    assert all(fleet.ask("joe") and fleet.ask(None) for _ in range(100))


def test_each_of_1000_customers_gets_its_own_rate(tmp_path: Path) -> None:
    """Customers may share a counter: then they get less than their rate, which is rare."""
    fleet = Fleet(tmp_path, default="2/s")
    got = [sum(fleet.ask(f"customer-{number}", number % 2) for _ in range(4)) for number in range(1_000)]
    assert max(got) == 2
    assert sum(count < 2 for count in got) <= 20


def test_replacement_worker_continues_the_counts_of_the_dead_one(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, customers={"acme": "10/s"})
    assert sum(fleet.ask("acme", 0) for _ in range(8)) == 8
    head = fleet.heads[0]
    heir = attach_rate_limiter(
        RateSettings.model_validate({"customers": {"acme": "10/s"}}), tmp_path / "board.scoreboard", 2, 0, head
    )
    assert heir is not None
    fleet.workers[0] = heir
    assert sum(fleet.ask("acme", 0) for _ in range(8)) == 2


@pytest.mark.parametrize("offered", [1, 5, 10, 50])
def test_retry_after_the_told_wait_is_admitted_and_not_earlier(tmp_path: Path, offered: int) -> None:
    quota = quota_of(10.0, (0,))
    for before in range(offered):
        for now in range(11):
            for elapsed_ns in range(0, S, S // 7):
                wait = wait_ns(quota, before, now, elapsed_ns)
                if not wait:
                    continue
                window, later = divmod(elapsed_ns + wait, S)
                assert window <= 1 or before > quota.limit
                assert wait_ns(quota, *((before, now) if window == 0 else (now, 0)), later) == 0
                window, sooner = divmod(elapsed_ns + wait - 2, S)
                assert wait_ns(quota, *((before, now) if window == 0 else (now, 0)), sooner) <= 2


def test_refusal_states_the_rate_and_retry_after(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, customers={"acme": "6/m"})
    assert fleet.ask("acme")
    with pytest.raises(RateExceeded, match=r"0\.1 requests per second") as refused:
        fleet.workers[1].admit("acme", fleet.now_ns)
    fleet.now_ns += int(refused.value.headers["retry-after"]) * S
    assert fleet.ask("acme", 1)


def test_counts_of_expired_windows_are_dropped(tmp_path: Path) -> None:
    book = RateCounters.create(tmp_path / "book", 2, 1)
    for window in (7, 7, 8):
        book.add((0,), 1, window)
    assert [book.counts(0, window) for window in (7, 8, 9, 10, 7 + 2**20)] == [(0, 2), (2, 1), (1, 0), (0, 0), (0, 0)]


def test_counters_made_for_other_workers_are_refused(tmp_path: Path) -> None:
    RateCounters.create(tmp_path / "book", 2, 1)
    with pytest.raises(SettingsError, match="version of the gateway"):
        RateCounters.attach(tmp_path / "book", 3, 1)


def test_withdrawn_request_leaves_the_counts_as_they_were(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, default="3/s")
    for _ in range(5):
        assert fleet.ask("acme")
        fleet.workers[0].withdraw("acme", fleet.now_ns)
    assert [fleet.ask("acme") for _ in range(4)] == [True, True, True, False]
    fleet.workers[0].withdraw("acme", fleet.now_ns)
    assert [fleet.ask("acme") for _ in range(2)] == [True, False]
