"""One controller for a fleet, over a real store: the ramp and its leader, and the weights that all hosts have."""

import asyncio
from pathlib import Path

import pytest

from gateway.control.fleet.release_codec import encoded_digest
from gateway.control.fleet.shared_release import DIFFERS
from gateway.control.fleet.stores import open_store
from gateway.control.guards import outcomes
from gateway.control.release.stages import Event, Stage
from gateway.errors import Conflict
from tests.control.fleet.ramps import MODEL, RampHost, Ramping, new_ramp, release
from tests.control.fleet.servers import LONG_S, RedisServer, asynchronous

GATED = [
    {"name": "everyone", "weight": 20, "while": [{"metric": "candidate.latency_p99_ms", "below": 40, "window": "10s"}]}
]
PILOT = {"name": "pilot", "match": [{"headers": {"x-pilot": "yes"}}], "weight": 5}


def others(fleet: Ramping) -> list[RampHost]:
    return [host for host in fleet.present if not host.leads]


def leader(fleet: Ramping) -> RampHost:
    (host,) = [host for host in fleet.present if host.leads]
    return host


def advances(fleet: Ramping) -> int:
    return sum(len(host.done("advance")) for host in fleet.hosts if isinstance(host, RampHost))


def weights(fleet: Ramping) -> list[int]:
    return [host.weight for host in fleet.present]


@asynchronous
async def test_the_ramp_steps_once_for_the_fleet(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        await fleet.run(66)
        assert weights(fleet) == [10, 10, 10]
        assert leader(fleet).done("advance") == ["advance"] and advances(fleet) == 1
        await fleet.run(60)
        assert weights(fleet) == [50, 50, 50]
        assert [host.step for host in fleet.present] == [2, 2, 2], "each has a copy of the controller"


@asynchronous
async def test_a_host_without_traffic_of_the_candidate_ramps_with_the_others(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        busy = others(fleet)[0]
        for _ in range(13):
            busy.answer()
            await fleet.ticks(1, traffic=False)
        assert weights(fleet) == [10, 10]


@asynchronous
async def test_another_host_goes_on_from_the_same_step_when_the_leader_is_gone(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        await fleet.run(66 + 30)
        old = leader(fleet)
        fleet.silent.add(old.name)
        await fleet.run(26)
        assert fleet.leaders == [] and weights(fleet) == [10, 10], "its lease may not have ended"
        await fleet.run(10)
        assert len(fleet.leaders) == 1 and weights(fleet) == [10, 10]
        await fleet.run(10)
        assert weights(fleet) == [10, 10], "the ramp's clock stood meanwhile"
        await fleet.run(36)
        assert weights(fleet) == [50, 50] and advances(fleet) == 2


@asynchronous
async def test_an_old_leader_that_comes_back_cannot_write(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        await fleet.run(66)
        old = leader(fleet)
        old.fail(3)
        held = old.wire.hold_digest()
        for _ in old.manager.steps():
            pass
        writing = old.ramps.exchange_all()
        task = asyncio.ensure_future(writing)
        await held.reached.wait()
        fleet.silent.add(old.name)
        await fleet.run(40)
        (new,) = fleet.present
        assert new.leads
        before = new.digest
        held.go.set()
        await task
        fleet.silent.clear()
        await old.beat()
        await old.exchange()
        assert not old.leads
        await fleet.ticks(2)
        assert new.leads and new.digest.leader == before.leader
        assert old.weight == new.weight == 10


@asynchronous
async def test_metrics_that_model_yaml_declares_count_on_the_leader_and_on_its_successor(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "MOST_PARTS", 0)
    declared = frozenset({"metrics.revenue"})
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        for host in fleet.present:
            host.manager.configure(host.served, {MODEL: declared})
        for nonce in (1, 2):
            host = leader(fleet)
            host.tell(host.token(nonce), revenue=1.0, other=1.0)
            await fleet.ticks(2)
            assert host.guards.to_json()["outcomes"].keys() == declared
            if nonce == 1:
                fleet.silent.add(host.name)
                await fleet.run(40)
                assert leader(fleet) is not host


@asynchronous
async def test_a_host_with_other_settings_neither_leads_nor_follows(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        await fleet.run(66)
        odd = others(fleet)[0]
        odd.serve(release(guards={"alpha": 0.02}))
        await fleet.ticks(2)
        assert odd.shared.problem == DIFFERS and odd.weight == 0
        assert [host.weight for host in fleet.present if host is not odd] == [10, 10]
        with pytest.raises(Conflict, match="other settings"):
            odd.manager.command(MODEL, Event.HOLD, "ann", "", {})
        fleet.silent.add(leader(fleet).name)
        await fleet.run(40)
        assert len(fleet.leaders) == 1 and leader(fleet) is not odd, "another host has the settings of the digest"
        fleet.silent.add(leader(fleet).name)
        await fleet.run(40)
        assert odd.leads and not odd.shared.problem, "no other host is left"
        await fleet.ticks(2)
        assert odd.weight == 10


@asynchronous
async def test_an_edit_on_all_hosts_one_after_the_other_goes_on_from_the_same_step(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        await fleet.run(66)
        for host in fleet.present:
            host.serve(release(guards={"alpha": 0.02}))
            await fleet.ticks(2)
        assert weights(fleet) == [10, 10, 10] and len(fleet.leaders) == 1
        await fleet.run(66)
        assert weights(fleet) == [50, 50, 50]


@asynchronous
async def test_a_leader_without_candidate_is_replaced(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        old, (new,) = leader(fleet), others(fleet)
        old.serve(release().model_copy(update={"candidate": None, "split": None, "ramp": None, "guards": None}))
        await fleet.ticks(3)
        assert new.leads and new.weight == 1
        old.serve(release())
        await fleet.run(66)
        assert new.leads and weights(fleet) == [10, 10]


@asynchronous
async def test_the_ramp_goes_on_when_the_store_has_lost_its_data(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        await fleet.run(66 + 20)
        fleet.wipe()
        await fleet.ticks(1)
        assert fleet.leaders == [], "the store is new: all are closed for a lease"
        await fleet.run(38)
        assert len(fleet.leaders) == 1 and weights(fleet) == [10, 10, 10]
        await fleet.run(46)
        assert weights(fleet) == [50, 50, 50] and advances(fleet) == 2


@asynchronous
async def test_a_release_keeps_its_step_when_all_hosts_and_the_store_begin_anew(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        await fleet.run(66)
        for host in list(fleet.hosts):
            await host.restarted()
        fleet.wipe()
        await fleet.open()
        await fleet.run(10)
        assert weights(fleet) == [10, 10] and len(fleet.leaders) == 1


@asynchronous
async def test_commands_of_people_on_any_host_reach_the_leader(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        asked = others(fleet)[0]
        decision = asked.manager.command(MODEL, Event.HOLD, "ann", "wait", {})
        assert (decision.action, decision.by) == ("hold", "ann")
        await fleet.ticks(2)
        stages = [host.manager.managed[MODEL].controller.state.stage for host in fleet.present]
        assert stages == [Stage.HELD, Stage.HELD]
        with pytest.raises(Conflict, match="not possible"):
            asked.manager.command(MODEL, Event.HOLD, "ann", "wait", {})
        await fleet.run(66)
        assert weights(fleet) == [1, 1]
        leader(fleet).manager.command(MODEL, Event.CONTINUE, "bob", "", {})
        await fleet.run(66)
        assert weights(fleet) == [10, 10]
        asked.wire.cut = True
        fleet.clock.advance(fleet.timing.longest_ns)
        with pytest.raises(Conflict, match="not in contact"):
            asked.manager.command(MODEL, Event.HOLD, "ann", "wait", {})


@asynchronous
async def test_conditions_hold_on_what_all_hosts_see_and_are_kept_by_the_next_leader(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path) as fleet:
        routes = [PILOT, *GATED]
        for name in "abc":
            fleet.ramp(name, release(routes, ramp=None))
        await fleet.open()
        await fleet.run(20)
        assert weights(fleet) == [20, 20, 20]
        fleet.silent.add(leader(fleet).name)
        await fleet.run(50)
        assert weights(fleet) == [20, 20] and len(fleet.leaders) == 1
        assert [host.done("weight") for host in fleet.present if not host.leads] == [[]]
        others(fleet)[0].answer(100, ms=90)
        await fleet.ticks(2)
        assert weights(fleet) == [0, 0]


@asynchronous
async def test_a_stop_and_a_resume_begin_the_ramp_anew_everywhere(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        await fleet.run(66)
        follower = others(fleet)[0]
        follower.stop_here(MODEL, 2, "ann", "no", {})
        await fleet.ticks(3)
        assert all(host.stopped(f"{MODEL}/2") for host in fleet.present)
        await follower.resume()
        await follower.exchange()
        assert follower.weight == 0, "the weight of the epoch before is not in force"
        await fleet.ticks(3)
        assert weights(fleet) == [1, 1] and not any(host.stopped(f"{MODEL}/2") for host in fleet.present)


@asynchronous
async def test_a_step_whose_reply_is_lost_is_made_once(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        await fleet.run(40)
        for _ in range(9):
            leader(fleet).wire.replies_to_lose = 1
            await fleet.ticks(1)
        assert advances(fleet) == 1 and weights(fleet) == [10, 10]


@asynchronous
async def test_damaged_data_closes_the_routes_until_it_is_deleted(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        await fleet.run(66)
        fleet.write(f"document:release:{MODEL}:core", "core", "{}", "tag", "another")
        await fleet.ticks(2)
        assert weights(fleet) == [0, 0]
        assert "delete the data" in fleet.present[0].ramps.problems[MODEL]
        fleet.wipe_release()
        await fleet.ticks(4)
        assert weights(fleet) == [10, 10] and not fleet.present[0].ramps.problems


@asynchronous
async def test_an_old_snapshot_of_the_store_takes_no_step_back(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        old = leader(fleet).digest
        await fleet.run(66)
        store = open_store(redis.url, fleet.name, LONG_S)
        snapshot = await store.document(f"release:{MODEL}").commit(None)
        await store.close()
        assert snapshot.tag
        fleet.write(f"document:release:{MODEL}:core", "core", encoded_digest(old).decode(), "tag", "another")
        await fleet.ticks(3)
        assert weights(fleet) == [10, 10] and len(fleet.leaders) == 1
