"""A host's share of each rate limit, as its workers apply it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from gateway.auth.fleet_rate_limit import (
    BY_SHARE,
    MustCount,
    attach_fleet_rate_limiter,
    create_rate_shares,
    is_counted,
    quotas_of,
)
from gateway.auth.rate_limit import Quota, create_rate_counters
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


class Store:
    """Answers for all quotas in turn, and those that asked."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.asked: list[Quota] = []

    async def count(self, quota: Quota) -> int:
        self.asked.append(quota)
        return self.answers.pop(0)


class SlowStore(Store):
    """Answers only after others could have asked, too."""

    most_at_once = at_once = 0

    async def count(self, quota: Quota) -> int:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        answer = await super().count(quota)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        return answer


def counted(host: Host, store: Store, *customers: str, now_ns: int = NOW) -> bool:
    """Whether one request is admitted that counts for all of these."""
    limiter = host.limiters[0]
    assert limiter is not None

    def admit() -> None:
        for customer in customers:
            limiter.admit(customer, now_ns)

    try:
        asyncio.run(limiter.counted(admit, store.count))
    except RateExceeded:
        return False
    return True


def test_request_of_a_counted_limit_is_asked_for_and_a_refusal_remembered(tmp_path: Path) -> None:
    host, store = Host(tmp_path), Store(0, 2 * S, 0)
    host.put(-1 - 7)
    assert [counted(host, store, "slow") for _ in range(9)] == [True] + [False] * 8
    assert len(store.asked) == 2
    assert host.shares.refused()[0] == 0 and host.shares.refused()[1] == 8
    assert not counted(host, store, "slow", now_ns=NOW + 2 * S - 1)
    assert counted(host, store, "slow", now_ns=NOW + 2 * S)


def test_refusal_of_a_counted_limit_says_when_to_come_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    limiter = host.limiters[0]
    assert limiter is not None
    host.put(-1)
    with pytest.raises(RateExceeded, match=r"more than 0\.1 requests per second") as refused:
        asyncio.run(limiter.counted(lambda: limiter.admit("slow", NOW), Store(4 * S).count))
    assert refused.value.headers["retry-after"] == "4"


def test_share_holds_for_requests_that_could_not_be_counted(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.put(-1 - 3)
    assert counted(host, Store(0), "slow"), "which takes one of the share"
    assert [counted(host, Store(BY_SHARE), "slow") for _ in range(5)] == [True, True, False, False, False]
    host.put(-1)
    assert not counted(host, Store(BY_SHARE), "joe")


async def asked_at_once(host: Host, store: Store, count: int, give_up: int | None = None) -> list[bool | None]:
    """Which of so many requests of a customer are admitted. `give_up`: that one is cancelled."""
    limiter = host.limiters[0]
    assert limiter is not None
    asking = [
        asyncio.ensure_future(limiter.counted(lambda: limiter.admit("slow", NOW), store.count)) for _ in range(count)
    ]
    await asyncio.sleep(0)  # all have asked
    if give_up is not None:
        asking[give_up].cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(answer, tuple | RateExceeded | asyncio.CancelledError) for answer in answers)
    return [None if isinstance(answer, asyncio.CancelledError) else isinstance(answer, tuple) for answer in answers]


def test_refusal_answers_all_requests_of_the_customer_that_came_at_once(tmp_path: Path) -> None:
    host, store = Host(tmp_path), SlowStore(0, 0, 2 * S)
    host.put(-1 - 7)
    assert asyncio.run(asked_at_once(host, store, 50)) == [True] * 2 + [False] * 48
    assert len(store.asked) == 3 and store.most_at_once == 1


def test_requests_that_came_at_once_have_the_share_if_the_store_is_silent(tmp_path: Path) -> None:
    host, store = Host(tmp_path), SlowStore(BY_SHARE)
    host.put(-1 - 7)
    assert asyncio.run(asked_at_once(host, store, 50)).count(True) == 7


@pytest.mark.parametrize(("give_up", "admitted"), [(0, 2), (1, 3)])
def test_request_that_is_given_up_takes_no_answer_from_the_others(tmp_path: Path, give_up: int, admitted: int) -> None:
    host, store = Host(tmp_path), SlowStore(0, 0, 0, 2 * S)
    host.put(-1 - 7)
    answers = asyncio.run(asked_at_once(host, store, 6, give_up))
    assert answers[give_up] is None
    assert answers.count(True) == admitted and answers.count(False) == 5 - admitted


def test_request_that_the_store_has_counted_is_admitted_though_shares_hold_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.put(-1)

    class LastAnswer(Store):
        async def count(self, quota: Quota) -> int:
            host.put(0)
            return await super().count(quota)

    assert counted(host, LastAnswer(0), "slow")
    assert not counted(host, Store(), "slow")
    host.put(-1)
    assert not counted(host, LastAnswer(BY_SHARE), "slow")


def test_request_that_counts_for_two_customers_is_counted_once_for_each(tmp_path: Path) -> None:
    host, store = Host(tmp_path), Store(0, 0)
    host.put(-1 - 7)
    assert counted(host, store, "joe", "slow")
    assert len({quota.places for quota in store.asked}) == 2


def test_request_that_is_not_counted_is_not_admitted_outside(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.put(-1 - 7)
    with pytest.raises(MustCount):
        host.asked("slow", 1)
    counted(host, Store(0), "slow")
    with pytest.raises(MustCount):
        host.asked("slow", 1)


def test_only_limits_below_five_a_second_are_counted() -> None:
    rates = {"4.9/s": True, "299/m": True, "5/s": False, "9.9/s": False, "10/s": False, "1000/s": False}
    for rate, is_small in rates.items():
        (quota,) = quotas_of(RateSettings.model_validate({"customers": {"acme": rate}}))
        assert is_counted(quota) == is_small, rate


class SilentStore(Store):
    """Answers once it is told to."""

    def __init__(self, *answers: int) -> None:
        super().__init__(*answers)
        self.told = asyncio.Event()

    async def count(self, quota: Quota) -> int:
        self.asked.append(quota)
        await self.told.wait()
        return self.answers.pop(0)


def test_share_decides_after_half_of_the_request_s_own_timeout(tmp_path: Path) -> None:
    host, store = Host(tmp_path), SilentStore(2 * S)
    limiter = host.limiters[0]
    assert limiter is not None
    host.put(-1 - 1)

    def admit(timeout_ns: int) -> None:
        try:
            limiter.admit("slow", NOW)
        except MustCount as must:
            must.timeout_ns = timeout_ns
            raise

    async def ask() -> None:
        patient = asyncio.ensure_future(limiter.counted(lambda: admit(3600 * S), store.count))
        await asyncio.sleep(0)
        for admitted in (True, False):
            hurried = limiter.counted(lambda: admit(20_000_000), store.count)
            if admitted:
                _, waited_s = await asyncio.wait_for(hurried, 30)
                assert waited_s >= 0.01
            else:
                with pytest.raises(RateExceeded):
                    await asyncio.wait_for(hurried, 30)
        store.told.set()
        with pytest.raises(RateExceeded):
            await patient

    asyncio.run(ask())
    assert len(store.asked) == 1, "those that wait no longer leave the first one's question alone"


def test_request_that_need_not_wait_has_waited_for_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    limiter = host.limiters[0]
    assert limiter is not None
    host.put(1)
    assert asyncio.run(limiter.counted(lambda: limiter.admit("slow", NOW), Store().count)) == (None, 0.0)
