"""Live metrics and drift of a fleet, over a real store: no host's old counters pass for the traffic of this moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gateway.control.fleet import redis_store
from gateway.control.fleet.counters import counts_of
from gateway.control.fleet.store import Transaction
from gateway.control.release.stages import Event
from gateway.errors import Outcome
from gateway.shm.tally import BLOCK
from tests.control.fleet.ramps import MODEL, RampHost, Ramping, new_ramp, release
from tests.control.fleet.servers import RedisServer, asynchronous
from tests.control.fleet.test_shared_evidence import LIMIT
from tests.control.fleet.test_shared_ramp import leader, others

LIMITED = release(guards={"limits": [LIMIT]})


@contextmanager
def another_run() -> Iterator[None]:
    """As if the store's server had been started again."""
    parsed, arguments = redis_store.parsed, redis_store.arguments

    def read(*parts: Any) -> Any:
        reply = parsed(*parts)
        return reply._replace(snapshot=reply.snapshot._replace(run_id=f"new {reply.snapshot.run_id}"))

    def sent(keys: Any, tag: Any, transaction: Transaction | None) -> Any:
        if transaction is not None:
            known = transaction.run_id.startswith("new ")
            transaction = transaction._replace(run_id=transaction.run_id[4:] if known else "gone")
        return arguments(keys, tag, transaction)

    with patch.multiple(redis_store, parsed=read, arguments=sent):
        yield


async def failed_long_ago(fleet: Ramping) -> None:
    """Two hosts, of which the one that exchanges last has counted 1500 failed requests."""
    for name in "ab":
        fleet.ramp(name, LIMITED)
    await fleet.ramping()
    for _ in range(1500):
        fleet.present[-1].failed_request()
    with patch("gateway.control.release.controller.violations", lambda *_: ()):
        await fleet.run(120)


def errors(host: RampHost) -> int:
    """The fleet's failed requests, as far as this host has counted them."""
    totals = host.shared._sums.candidate
    assert totals is not None
    return totals.outcomes("candidate")[Outcome.MODEL_ERROR]


@asynchronous
async def test_old_errors_stop_nothing_when_the_releases_data_is_deleted(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path) as fleet:
        await failed_long_ago(fleet)
        fleet.wipe_release()
        for _ in range(4):
            await fleet.ticks(1)
            for host in fleet.present:
                assert not host.read("candidate.error_rate", 60.0).value and not host.done("stop")
        assert len(fleet.leaders) == 1


@asynchronous
async def test_old_errors_stop_nothing_when_the_store_comes_back_empty(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path) as fleet:
        await failed_long_ago(fleet)
        fleet.wipe()
        with another_run():
            for _ in range(14):
                await fleet.ticks(1)
                for host in fleet.present:
                    assert not host.read("candidate.error_rate", 60.0).value and not host.done("stop")
            assert len(fleet.leaders) == 1 and min(host.weight for host in fleet.present) > 0


@asynchronous
async def test_old_counters_of_stable_do_not_reach_a_new_candidates_comparison(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        first, (second,) = leader(fleet), others(fleet)
        for host in fleet.present:
            for _ in range(40):
                host.tally(1).classified(0, [2] * 25)
            host.answer(0, stable=500)
        await fleet.run(66)
        edited = release(candidate=3)
        first.serve(edited)
        await fleet.ticks(3)
        rows = first.shared._sums.stable.classes.sum()
        second.serve(edited)
        for _ in range(4):
            await fleet.ticks(1)
            assert first.shared._sums.stable.classes.sum() == rows
            assert first.read("stable.requests_per_s", 60.0).count < 30
        second.tally(1).classified(0, [2] * 3)
        await fleet.ticks(2)
        assert first.shared._sums.stable.classes.sum() == rows + 3


@asynchronous
async def test_a_host_with_other_settings_is_not_counted(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        odd = others(fleet)[0]
        leader(fleet).manager.command(MODEL, Event.HOLD, "ann", "", {})
        odd.serve(release(guards={"alpha": 0.02}))
        await fleet.ticks(2, traffic=False)
        before = leader(fleet).sums
        odd.answer(300)
        await fleet.ticks(2, traffic=False)
        assert leader(fleet).sums == before
        odd.serve(release())
        await fleet.ticks(2, traffic=False)
        assert leader(fleet).sums == before
        odd.answer(4)
        await fleet.ticks(2, traffic=False)
        assert leader(fleet).sums == before + 4


@asynchronous
async def test_a_log_removed_while_its_host_was_away_is_not_counted_again(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        leads, (away,) = leader(fleet), others(fleet)
        leads.manager.command(MODEL, Event.HOLD, "ann", "", {})
        away.answer(1000)
        await fleet.ticks(2, traffic=False)
        before = leads.sums
        fleet.silent.add(away.name)
        await fleet.ticks(20, traffic=False)
        assert len(leads.shared._release.logs) == 1
        with another_run():
            fleet.silent.clear()
            await fleet.ticks(14, traffic=False)
            assert len(leads.shared._release.logs) == 2
            assert leads.sums == before
            away.answer(5)
            await fleet.ticks(2, traffic=False)
            assert leads.sums == before + 5


@asynchronous
async def test_a_new_leader_goes_on_with_what_it_has_counted_itself(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path) as fleet:
        await failed_long_ago(fleet)
        (new,) = others(fleet)
        fleet.silent.add(leader(fleet).name)
        await fleet.ticks(9)
        assert fleet.leaders == [new.name]
        assert new.read("candidate.error_rate", 60.0).value == 0.0 and not new.done("stop")
        before = errors(new)
        again = await new.restarted()
        await fleet.open()
        await fleet.ticks(9)
        assert before >= 1500 and errors(again) == 0 and again.leads and not again.done("stop")
        for _ in range(40):
            again.failed_request()
        await fleet.ticks(2, traffic=False)
        assert again.done("stop") == ["stop"]


@asynchronous
async def test_a_host_whose_gateway_counts_other_things_disturbs_no_one(redis: RedisServer, tmp_path: Path) -> None:
    def of_another_layout(*arguments: Any) -> dict[str, Any]:
        counts = counts_of(*arguments)
        versions = [BLOCK + 1 if number == BLOCK else number for number in counts["versions"]]
        return {**counts, "versions": versions, "candidate": [[BLOCK], [5]]}

    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        other = others(fleet)[0]
        for _ in range(4):
            with patch("gateway.control.fleet.host_log.counts_of", of_another_layout):
                for _ in other.manager.steps():
                    pass
                await other.ramps.exchange_all()
            await leader(fleet).exchange()
            assert not leader(fleet).ramps.problems
        assert leader(fleet).weight == 1
