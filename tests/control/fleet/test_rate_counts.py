"""Small rate limits, whose requests the store counts: what all hosts admit together, and where the store is away."""

import asyncio
import random
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.fleet_rate_limit import BY_SHARE
from gateway.auth.rate_limit import RateLimiter, attach_rate_limiter, create_rate_counters
from gateway.control.fleet.count_budget import MOST_COUNTS
from gateway.control.fleet.rate_counts import Pace, RateCounts, count_name, counted, pace_of
from gateway.control.fleet.rates_assembly import count_for_workers
from gateway.control.fleet.store import FleetStore, StoreUnavailable
from gateway.errors import RateExceeded
from gateway.messages import CountReply, CountRequest
from gateway.settings.gateway import RateSettings
from gateway.shm.scoreboard import HEAD
from tests.control.fleet.rate_hosts import RateFleet, RateHost, S
from tests.control.fleet.servers import LONG_S, EtcdServer, RedisServer, asynchronous, opened
from tests.control.fleet.test_rates import load, three
from tests.control.fleet.test_rates_faults import settled
from tests.control.fleet.test_rates_machine import Local, Store

PACES: Final = st.builds(Pace, st.integers(1, 60 * S), st.integers(1, 9))
NOW: Final = 10**18


class OneHost:
    """A gateway without a fleet, which gets the same requests."""

    def __init__(self, folder: Path, limit: str) -> None:
        rate = RateSettings.model_validate({"customers": {"acme": limit}})
        create_rate_counters(rate, board := folder / "one.scoreboard", 1)
        limiter = attach_rate_limiter(rate, board, 1, 0, memoryview(bytearray(8 * HEAD)).cast("q"))
        assert limiter is not None
        self.limiter: RateLimiter = limiter

    def ask(self, now_ns: int) -> bool:
        try:
            self.limiter.admit("acme", now_ns)
        except RateExceeded:
            return False
        return True


async def compared(
    fleet: RateFleet, one: OneHost, hosts: list[RateHost], per_s: float, requests: int
) -> tuple[list[int], int]:
    """When the fleet admitted requests, in ns, and how many one host alone did. They come about evenly."""
    generator, admitted, alone = random.Random(5), [], 0
    for _ in range(requests):
        fleet.now_ns += round(S / per_s * generator.uniform(0.8, 1.2))
        alone += one.ask(fleet.now_ns)
        if await generator.choice(hosts).ask("acme"):
            admitted.append(fleet.now_ns)
        for host in fleet.hosts:
            await host.rates.tick()
    return admitted, alone


def most_within(times_ns: list[int], window_ns: int) -> int:
    return max(sum(begin <= time_ns < begin + window_ns for time_ns in times_ns) for begin in times_ns)


@pytest.mark.parametrize(
    ("names", "limit", "per_s"), [("abc", "1/s", 1.0), ("abc", "30/m", 0.5), ("abcdefghijkl", "2/s", 2.0)]
)
@asynchronous
async def test_fleet_admits_what_one_host_alone_would_wherever_the_load_is(
    tmp_path: Path, names: str, limit: str, per_s: float
) -> None:
    async with settled(tmp_path, names, customers={"acme": limit}) as (fleet, hosts):
        one = OneHost(tmp_path, limit)
        for factor, where in ((3, hosts[:1]), (3, hosts[1:2]), (3, hosts), (0.9, hosts), (0.9, hosts[:1])):
            admitted, alone = await compared(fleet, one, where, factor * per_s, 60)
            assert 0.95 * alone <= len(admitted), (factor, len(where))
            assert len(admitted) <= per_s * (admitted[-1] - admitted[0]) / S + 1.5 * max(1, per_s)
            assert most_within(admitted, S) <= 2 * max(1, per_s), "as on one host"


@asynchronous
async def test_burst_on_all_hosts_admits_no_more_than_on_one(tmp_path: Path) -> None:
    async with settled(tmp_path, "abc", customers={"acme": "4/s"}) as (fleet, hosts):
        asked = await asyncio.gather(*(host.ask("acme") for _ in range(30) for host in hosts))
        assert sum(asked) == 4
        assert all(host.wire.counted < 20 for host in hosts), "a refusal is remembered"
        fleet.now_ns += S // 4
        assert [await host.ask("acme") for host in hosts].count(True) == 1


@asynchronous
async def test_customers_without_a_limit_of_their_own_are_counted_apart(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path, default="1/s") as (_, (a, b, _)):
        names = [f"customer {number}" for number in range(40)]
        assert [await a.ask(name) for name in names] == [True] * 40
        assert [await b.ask(name) for name in names] == [False] * 40


@asynchronous
async def test_limits_of_five_a_second_and_more_ask_no_store(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path, customers={"acme": "5/s"}) as (fleet, hosts):
        await fleet.run(2, load(a=30.0, b=3.0))
        assert [host.wire.counted for host in hosts] == [0, 0, 0]


@asynchronous
async def test_host_without_contact_has_its_share_and_the_others_the_rest(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path, customers={"acme": "1/s"}) as (fleet, (a, b, _)):
        a.wire.cut = True
        await fleet.run(2, {})
        kept = a.share()
        assert kept == 3
        everywhere = load(a=2.0, b=2.0, c=2.0)
        await fleet.run(20, everywhere)
        admitted = await fleet.run(100, everywhere)
        assert 28 <= admitted["a"] <= 30 + 1
        assert 66 <= admitted["b"] + admitted["c"] <= 70 + 1
        a.wire.cut = False
        await fleet.run(20, load(b=3.0))
        assert 98 <= (await fleet.run(100, load(b=3.0)))["all"] <= 101
        assert b.wire.counted


@asynchronous
async def test_when_all_lose_the_store_the_shares_hold(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path, customers={"acme": "1/s"}) as (fleet, hosts):
        everywhere = load(a=2.0, b=2.0, c=2.0)
        await fleet.run(20, everywhere)
        assert all(host.shares.words[0] < 0 for host in hosts)
        for host in hosts:
            host.wire.cut = True
        await hosts[0].ask("acme")
        assert hosts[0].shares.words[0] >= 0, "at once, so that no other request waits for the store"
        await fleet.run(20, everywhere)
        assert 80 <= (await fleet.run(100, everywhere))["all"] <= 103
        assert hosts[0].rates.problem == "cut off"
        for host in hosts:
            host.wire.cut = False
        await fleet.run(1, {})
        assert all(host.shares.words[0] < 0 for host in hosts)


@asynchronous
async def test_store_too_slow_to_count_is_left_alone_for_two_seconds(tmp_path: Path) -> None:
    async with settled(tmp_path, "a", customers={"acme": "1/s"}) as (fleet, (a,)):
        a.wire.counts_cut = True
        assert await a.ask("acme"), "by its share"
        a.wire.counts_cut = False
        await fleet.run(1.5, {})
        assert a.shares.words[0] >= 0 and a.rates.problem == ""
        await fleet.run(1, {})
        assert a.shares.words[0] < 0


@asynchronous
async def test_flood_of_customers_is_counted_up_to_a_number_between_two_ticks(tmp_path: Path) -> None:
    async with settled(tmp_path, "a", default="1/s") as (_, (a,)):
        names = [f"customer {number}" for number in range(MOST_COUNTS + 20)]
        assert all([await a.ask(name) for name in names]), "those beyond by the share"
        assert a.wire.counted == 2 * MOST_COUNTS, "to read the count and to write it"
        assert max(a.shares.words) >= 0, "no worker asks any more"
        await a.rates.tick()
        assert max(a.shares.words) < 0 and a.rates.problem == "" and a.rates.errors == 0


@asynchronous
async def test_worker_is_answered_whatever_it_asks(tmp_path: Path) -> None:
    class Pool:
        on_count: Any = None

    class Worker:
        def __init__(self) -> None:
            self.answer: asyncio.Future[CountReply] = asyncio.get_running_loop().create_future()

        def send(self, reply: CountReply) -> None:
            self.answer.set_result(reply)

    async with settled(tmp_path, "a", customers={"acme": "1/s"}) as (_, (a,)):
        pool: Any = Pool()
        count_for_workers(a.rates, pool)
        for places, wait_ns in (((0,), 0), ((10**6,), BY_SHARE)):
            pool.on_count(worker := Worker(), CountRequest(7, places))
            assert await worker.answer == CountReply(7, wait_ns)


@asynchronous
async def test_host_whose_clock_is_wrong_neither_adds_to_the_limit_nor_is_refused_for_ever(tmp_path: Path) -> None:
    async with settled(tmp_path, "ab", customers={"acme": "1/s"}) as (fleet, (a, b)):
        b.clock_error_ns = S // 2
        both = load(a=3.0, b=3.0)
        admitted = await fleet.run(60, both)
        assert 58 <= admitted["all"] <= 62
        a.clock_error_ns = b.clock_error_ns = -3600 * S
        await fleet.run(1, {})
        assert (await fleet.run(20, both))["all"] >= 19


@asynchronous
async def test_hosts_whose_clocks_disagree_admit_no_more_than_the_limit_each(tmp_path: Path) -> None:
    async with settled(tmp_path, "ab", customers={"acme": "1/s"}) as (fleet, (_, b)):
        b.clock_error_ns = 10 * S
        admitted = await fleet.run(60, load(a=3.0, b=3.0))
        assert 58 <= admitted["a"] <= 62 and 58 <= admitted["b"] <= 62


@pytest.mark.slow
@asynchronous
async def test_two_hosts_that_count_at_once_admit_the_burst_between_them_over_etcd(tmp_path: Path) -> None:
    with EtcdServer(tmp_path / "etcd") as etcd:
        async with opened(etcd.url) as first, opened(etcd.url) as second:
            await admit_the_burst(first, second)


@asynchronous
async def test_two_hosts_that_count_at_once_admit_the_burst_between_them_over_redis(redis: RedisServer) -> None:
    async with opened(redis.url, "counts") as first, opened(redis.url, "counts") as second:
        await admit_the_burst(first, second)


async def admit_the_burst(*stores: FleetStore) -> None:
    hosts = [RateCounts(store.document, within_s=LONG_S) for store in stores]
    pace = Pace(3600 * S, 9)
    for counts in hosts:
        assert await counts.take("warm up", Pace(1, 1)) == 0  # the first call connects
    waits = await asyncio.gather(*(counts.take("count", pace) for _ in range(10) for counts in hosts))
    assert waits.count(0) == 9
    assert all(1700 * S < wait <= 1800 * S for wait in waits if wait)
    assert await hosts[0].take("another", pace) == 0


@asynchronous
async def test_store_that_does_not_answer_in_time_is_reported() -> None:
    class Silent(Local):
        async def commit(self, transaction: object) -> object:  # type: ignore[override]
            return await asyncio.get_running_loop().create_future()

    with pytest.raises(StoreUnavailable, match=r"not counted a request within 0\.25 s"):
        await RateCounts(lambda _: Silent(Store())).take("count", Pace(S, 1))


@asynchronous
@pytest.mark.parametrize("damaged", [b"x", b"", b"9" * 5000])
async def test_damaged_count_begins_anew(damaged: bytes) -> None:
    store = Store()
    store.records["arrival"] = damaged
    assert await RateCounts(lambda _: Local(store), lambda: NOW).take("count", Pace(S, 1)) == 0
    assert store.records["arrival"] == b"%d" % (NOW + S)


@given(PACES, st.lists(st.integers(0, 3 * S), max_size=60))
def test_no_window_holds_more_than_two_bursts(pace: Pace, pauses_ns: list[int]) -> None:
    state, now_ns, admitted = 0, NOW, []
    for pause_ns in pauses_ns:
        now_ns += pause_ns
        wait_ns, state = counted(state, now_ns, pace)
        if not wait_ns:
            admitted.append(now_ns)
    if admitted:
        assert most_within(admitted, pace.burst * pace.interval_ns) <= 2 * pace.burst


@given(PACES, st.lists(st.integers(0, 3 * S), min_size=1, max_size=60))
def test_request_is_admitted_after_the_wait_and_not_before(pace: Pace, pauses_ns: list[int]) -> None:
    state, now_ns = 0, NOW
    for pause_ns in pauses_ns:
        now_ns += pause_ns
        wait_ns, state = counted(state, now_ns, pace)
        if wait_ns:
            assert counted(state, now_ns + wait_ns - 1, pace).wait_ns == 1
            assert counted(state, now_ns + wait_ns, pace).wait_ns == 0


def test_pace_is_that_of_the_limit() -> None:
    assert pace_of(10, 10 * S) == Pace(S, 1)
    assert pace_of(7, 10 * S) == Pace(10 * S // 7, 1)
    assert pace_of(10, 10 * S // 9) == Pace(S // 9, 9)


def test_count_is_one_for_all_limits_of_a_customer() -> None:
    assert count_name("cab/10/1", (3,)) == count_name("cab/10/2", (3,)) == "count-cab"
    assert count_name("h7/10/1", (7, 20)) == "count-h7-4" != count_name("h7/10/1", (7, 21))
