"""Rate limits over hosts of one fleet, over a real Redis: how many requests all of them admit together."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.control.fleet.stores import open_store
from tests.control.fleet.rate_hosts import RateFleet, RateHost
from tests.control.fleet.servers import LONG_S, EtcdServer, RedisServer, StoreServer, asynchronous

numbers = itertools.count()
BORDERS = 3  # requests: any ten seconds may hold one more on each host than ten whole windows
NEW_S = 31.0  # a lease: in a new store no share grows before it is over
LIMIT = {"customers": {"acme": "100/s"}}


Three = tuple[RateFleet, list[RateHost]]


@asynccontextmanager
async def three(
    store: StoreServer, folder: Path, **settings: object
) -> AsyncIterator[tuple[RateFleet, list[RateHost]]]:
    """A fleet whose hosts a, b and c have their shares."""
    name = f"rates {next(numbers)}"
    fleet = RateFleet(folder, lambda: open_store(store.url, name, LONG_S), **(settings or LIMIT))
    try:
        for host in "abc":
            fleet.add(host)
        await fleet.run(NEW_S, {})
        await fleet.run(3, {})
        yield fleet, list(fleet.hosts)
    finally:
        await fleet.close()


def load(customer: str = "acme", **per_s: float) -> dict[tuple[str, str], float]:
    return {(host, customer): offered for host, offered in per_s.items()}


@asynchronous
async def test_limit_holds_over_all_hosts_and_follows_the_load(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path) as (fleet, hosts):
        assert [host.share() for host in hosts] == [33, 33, 33]
        loads = {"a": 300.0}, {"b": 300.0}, {"a": 120.0, "b": 120.0, "c": 120.0}, {"a": 300.0, "c": 40.0}
        for offered in loads:
            moving = (await fleet.run(2, load(**offered)))["all"]
            assert moving <= 2 * 100 + 34, "a burst on each host at most"
            admitted = await fleet.run(10, load(**offered))
            assert 950 <= admitted["all"] <= 1000 + BORDERS, (offered, admitted)
        assert admitted["c"] > 380


@pytest.mark.slow
@asynchronous
async def test_limit_holds_over_etcd(tmp_path: Path) -> None:
    with EtcdServer(tmp_path / "etcd") as etcd:
        async with three(etcd, tmp_path) as (fleet, _):
            for host in "ab":
                await fleet.run(2, load(**{host: 300.0}))
                assert 950 <= (await fleet.run(10, load(**{host: 300.0})))["all"] <= 1000 + BORDERS


@asynchronous
async def test_customer_below_its_limit_is_hardly_refused_wherever_it_asks(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path) as (fleet, _):
        for offered in ({"a": 30.0, "b": 30.0, "c": 30.0}, {"a": 60.0, "b": 30.0}, {"c": 90.0}):
            await fleet.run(2, load(**offered))
            admitted = await fleet.run(10, load(**offered))
            assert admitted["all"] >= 10 * 0.98 * sum(offered.values()), offered


@asynchronous
async def test_any_customer_has_its_limit_over_all_hosts(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path, default="50/s") as (fleet, _):
        offered = load("ann", a=200.0) | load("bob", b=100.0, c=20.0) | load("cid", a=10.0)
        await fleet.run(2, offered)
        ann = (await fleet.run(10, load("ann", a=200.0)))["all"]
        assert 475 <= ann <= 500 + BORDERS
        bob = await fleet.run(10, offered)
        assert 475 <= bob["b"] + bob["c"] <= 500 + BORDERS and bob["a"] <= 600 + BORDERS


@asynchronous
async def test_host_that_is_cut_off_keeps_its_share_and_no_one_takes_it(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path) as (fleet, (a, _, c)):
        await fleet.run(3, load(a=200.0, b=200.0))
        kept = a.share()
        a.wire.cut = True
        everywhere = load(a=200.0, b=200.0, c=200.0)
        await fleet.run(3, everywhere)
        admitted = await fleet.run(10, everywhere)
        assert 950 <= admitted["all"] <= 1000 + BORDERS
        assert abs(admitted["a"] - kept * 10) <= 1
        elsewhere = load(b=300.0)
        await fleet.run(3, elsewhere)
        assert (await fleet.run(10, elsewhere))["all"] <= 1000 - kept * 10 + BORDERS
        a.wire.cut = False
        await fleet.run(2, elsewhere)
        assert 950 <= (await fleet.run(10, elsewhere))["all"] <= 1000 + BORDERS
        assert (a.share(), c.share()) == (0, 0)


@asynchronous
async def test_killed_hosts_share_is_free_once_its_successor_or_a_person_says_so(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with three(redis, tmp_path) as (fleet, (a, b, c)):
        await fleet.run(3, load(a=300.0))
        assert a.share() == 100
        again = fleet.restart(a)
        assert again.share() == 10, "a tenth until there is contact"
        await again.rates.tick()
        assert again.share() == 33, "what the old one had, as far as there is demand"
        await fleet.run(3, load(a=300.0))
        assert again.share() == 100
        assert sorted(again.rates.records) == sorted(host.incarnation for host in fleet.hosts)
        b.alive = False
        await fleet.run(3, load(c=300.0))
        assert c.share() + again.share() + b.share() == 100 and b.share() == 0
        b.alive = True
        await fleet.run(3, load(b=300.0))
        b.alive = False
        await fleet.run(3, load(c=300.0))
        assert c.share() == 0, "all of it is reserved by a host that may go on"
        await c.rates.remove([b.incarnation])
        fleet.hosts.remove(b)
        await fleet.run(3, load(c=300.0))
        assert c.share() == 100


@asynchronous
async def test_host_that_leaves_gives_its_share_back(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path) as (fleet, (a, b, c)):
        await a.rates.leave()
        a.alive = False
        await a.rates.tick()
        fleet.hosts.remove(a)
        await fleet.run(3, {})
        assert (b.share(), c.share()) == (50, 50)
        assert a.incarnation not in c.rates.records


@asynchronous
async def test_newcomer_has_a_tenth_until_contact_and_then_its_part(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path) as (fleet, hosts):
        await fleet.run(3, load(a=300.0))
        d = fleet.add("d")
        d.wire.cut = True
        await fleet.run(3, load(a=300.0, d=300.0))
        assert d.share() == 10 and d.rates.newcomer
        d.wire.cut = False
        await fleet.run(3, load(a=300.0, d=300.0))
        assert not d.rates.newcomer
        assert (hosts[0].share(), d.share()) == (50, 50)
        assert [host.rates.held.base_ppm for host in fleet.hosts] == [250_000] * 4


@asynchronous
async def test_store_that_has_lost_its_data_is_told_what_is_in_force(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path) as (fleet, (a, b, c)):
        await fleet.run(3, load(a=300.0, b=30.0))
        before = [host.share() for host in (a, b, c)]
        c.wire.cut = True
        redis.wipe()
        await fleet.run(3, load(c=300.0))
        assert all(host.share() <= had for host, had in zip((a, b, c), before, strict=True)), "nothing grows yet"
        assert c.incarnation in a.rates.records, "the others have brought what it had"
        c.wire.cut = False
        await fleet.run(NEW_S, {})
        await fleet.run(3, load(c=300.0))
        assert c.share() == 100


@pytest.mark.slow
@asynchronous
async def test_small_limit_of_any_customer_is_one_over_all_hosts(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path, default="1/s") as (fleet, _):
        gentle = load("ann", a=0.3, b=0.3, c=0.3)
        await fleet.run(10, gentle)
        assert (await fleet.run(40, gentle))["all"] >= 34
        wild = load("bob", a=3.0, b=3.0)
        await fleet.run(20, wild)
        assert 36 <= (await fleet.run(40, wild))["all"] <= 40


@asynchronous
async def test_steady_load_writes_nothing(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path) as (fleet, hosts):
        offered = load(a=100.0, b=100.0, c=5.0)
        await fleet.run(5, offered)
        before = sum(host.wire.writes for host in hosts)
        await fleet.run(10, offered)
        assert sum(host.wire.writes for host in hosts) - before <= 12


@asynchronous
async def test_damaged_data_leaves_shares_as_they_are(redis: RedisServer, tmp_path: Path) -> None:
    async with three(redis, tmp_path) as (fleet, (a, _, _)):
        key = f"{{gateway:rates {next(numbers) - 1}}}:members"
        redis.send("HSET", key, "x", '[1, "x", 0, {"acme": [1, 2]}]')
        await fleet.run(1, load(a=300.0))
        assert a.share() == 33
        assert a.rates.problem.endswith("choose another fleet.name, or delete the data")
