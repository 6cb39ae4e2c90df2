"""Rate limits over hosts where something is amiss: other settings, killed hosts, more limits than a record names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.control.fleet.rate_hosts import RateFleet, RateHost
from tests.control.fleet.servers import asynchronous
from tests.control.fleet.test_rates import BORDERS, NEW_S, load
from tests.control.fleet.test_rates_machine import Local, Store


@asynccontextmanager
async def settled(folder: Path, names: str, **settings: object) -> AsyncIterator[tuple[RateFleet, list[RateHost]]]:
    """Hosts that have their shares, over a store in this process."""
    store = Store()
    fleet = RateFleet(folder, lambda: Local(store), **settings)
    try:
        for name in names:
            fleet.add(name)
        await fleet.run(NEW_S, {})
        await fleet.run(3, {})
        yield fleet, list(fleet.hosts)
    finally:
        await fleet.close()


@asynchronous
async def test_rare_requests_on_one_host_are_admitted_below_the_limit(tmp_path: Path) -> None:
    async with settled(tmp_path, "ab", customers={"acme": "10/s"}) as (fleet, _):
        await fleet.run(5, load(a=9.0, b=0.5))
        assert (await fleet.run(60, load(a=9.0, b=0.5)))["b"] >= 27


@asynchronous
async def test_higher_of_two_limits_is_not_exceeded(tmp_path: Path) -> None:
    async with settled(tmp_path, "a", customers={"acme": "100/s"}) as (fleet, _):
        fleet.settings = {"customers": {"acme": "200/s"}}
        fleet.add("b")
        await fleet.run(5, load(a=300.0, b=300.0))
        assert (await fleet.run(10, load(a=300.0, b=300.0)))["all"] <= 2000 + BORDERS


@asynchronous
async def test_workers_that_outlive_control_keep_their_share_until_they_have_ended(tmp_path: Path) -> None:
    async with settled(tmp_path, "ab", customers={"acme": "100/s"}) as (fleet, (a, b)):
        await fleet.run(3, load(a=300.0))
        again = fleet.restart(a, orphans=True)
        await fleet.run(5, load(b=300.0))
        assert a.share() + b.share() <= 100
        again.rates.orphans_ended()
        await fleet.run(3, load(b=300.0))
        assert b.share() == 100 and a.incarnation not in b.rates.records


@asynchronous
async def test_clone_of_a_hosts_disk_takes_nothing_from_that_host_while_it_beats(tmp_path: Path) -> None:
    async with settled(tmp_path, "a", customers={"acme": "100/s"}) as (fleet, (a,)):
        await fleet.run(3, load(a=300.0))
        clone = fleet.clone(a, "b")
        for joined in (False, True):
            clone.joined = joined
            await clone.rates.tick()
        assert {a.incarnation, clone.incarnation} <= clone.rates.records.keys()
        await fleet.run(3, load(a=300.0, b=300.0))
        assert (await fleet.run(10, load(a=300.0, b=300.0)))["all"] <= 1000 + BORDERS


@asynchronous
async def test_two_starts_without_contact_leave_no_record_behind(tmp_path: Path) -> None:
    async with settled(tmp_path, "ab", customers={"acme": "100/s"}) as (fleet, (a, b)):
        once = fleet.restart(a)
        once.wire.cut = True
        await once.rates.tick()
        twice = fleet.restart(once)
        await fleet.run(3, {})
        assert sorted(b.rates.records) == sorted([b.incarnation, twice.incarnation])


@asynchronous
async def test_host_joins_though_more_limits_are_busy_than_a_record_names(tmp_path: Path) -> None:
    async with settled(tmp_path, "ab", default="30/s") as (fleet, _):
        busy = {(host, f"c{number}"): 14.0 for host in "ab" for number in range(1200)}
        await fleet.run(2, busy)
        joined = fleet.add("c")
        await fleet.run(3, busy)
        assert joined.rates.held.base_ppm > 300_000


@asynchronous
async def test_host_that_the_fleet_refuses_is_as_one_without_contact(tmp_path: Path) -> None:
    async with settled(tmp_path, "a", customers={"acme": "100/s"}) as (fleet, _):
        refused = fleet.add("b")
        refused.refused = "fleet.lease is 2s here and 1s in the fleet: set it to that"
        await fleet.run(8, {})
        assert (refused.rates.newcomer, refused.share()) == (True, 10)
        assert refused.rates.problem == refused.refused
