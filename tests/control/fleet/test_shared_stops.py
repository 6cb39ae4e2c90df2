"""Stops, commands and failures of one controller for a fleet: none is lost with a leader or acts on a later epoch."""

from pathlib import Path
from typing import Any

from gateway.control.fleet.store import StoreUnavailable, Transaction
from gateway.control.release.actions import Stop
from gateway.control.release.stages import Event, Stage
from tests.control.fleet.ramps import MODEL, RampHost, new_ramp, release
from tests.control.fleet.servers import RedisServer, asynchronous
from tests.control.fleet.test_shared_ramp import leader, others

CANDIDATE = f"{MODEL}/2"


def stage(host: RampHost) -> Stage:
    return host.manager.managed[MODEL].controller.state.stage


@asynchronous
async def test_a_stop_that_was_stored_and_not_carried_out_is_made_by_the_next_leader(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        lost, (next_one,) = leader(fleet), others(fleet)
        lost.shared._place.run = lambda *_: None  # type: ignore[method-assign]  # it is killed before
        lost.fail(12, weight_ppm=10_000)
        await fleet.ticks(1)
        assert (stage(lost), lost.stopped(CANDIDATE)) == (Stage.STOPPED, False)
        fleet.silent.add(lost.name)
        await fleet.ticks(20)
        assert next_one.leads and next_one.stopped(CANDIDATE)
        assert next_one.done("stop") == ["stop"]
        assert "was lost before it did" in next_one.log.decisions[-1].reason
        await next_one.resume()
        await fleet.ticks(4)
        assert (stage(next_one), next_one.stopped(CANDIDATE), next_one.weight) == (Stage.RAMPING, False, 1)


@asynchronous
async def test_a_command_has_no_effect_on_a_later_epoch(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        leads, (cut,) = leader(fleet), others(fleet)
        cut.manager.command(MODEL, Event.COMPLETE, "ann", "it is good", {})
        fleet.silent.add(cut.name)
        await fleet.run(60)
        leads.start()
        await leads.stop()
        await leads.pause()
        await fleet.ticks(2)
        await leads.resume()
        await fleet.ticks(2)
        fleet.silent.clear()
        await fleet.ticks(12)
        assert [stage(host) for host in fleet.present] == [Stage.RAMPING] * 2


@asynchronous
async def test_a_models_document_that_fails_holds_up_no_other_model(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path) as fleet:
        host = fleet.ramp("a")
        host.served = {MODEL: release(), "other": release()}
        host.manager.configure(host.served)
        await fleet.ramping()
        await fleet.ticks(2)
        assert host.manager.weights_ppm("other") == host.manager.weights_ppm(MODEL)

        async def refuse(_: Transaction | None) -> Any:
            raise StoreUnavailable("request is too large")

        host.ramps.releases[MODEL]._document.commit = refuse  # type: ignore[method-assign]
        await fleet.ticks(12)
        assert (host.weight, host.manager.weights_ppm("other")["everyone"]) == (0, 10_000)
        assert "too large" in host.ramps.problems[MODEL] and "other" not in host.ramps.problems


@asynchronous
async def test_a_stop_decided_before_a_resume_does_not_stop_what_was_resumed(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        leads = leader(fleet)
        shared, place = leads.shared, leads.shared._place
        before = place.epoch(shared.one)
        for host in fleet.present:
            host.start()
        await leads.stop()
        await leads.resume()
        for host in fleet.present:
            await host.pause()
        place.run(shared.one, (Stop("too late", {}, "errors"),), before)
        assert not leads.stopped(CANDIDATE)
        place.run(shared.one, (Stop("in time", {}, "errors"),), before + 1)
        assert leads.stopped(CANDIDATE)


@asynchronous
async def test_what_was_kept_of_another_fleet_is_not_gone_on_with(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a") as fleet:
        host = leader(fleet)

        memory = host.ramps.memory(host.shared.one)
        host.manager.memory_of = lambda name: memory  # type: ignore[method-assign]
        assert host.ramps._kept(MODEL) == host.shared.kept
        host.membership.fleet = "another"
        assert host.ramps._kept(MODEL) is None
