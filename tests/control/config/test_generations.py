"""Configuration generations: which versions they have loaded beside those that are served."""

from pathlib import Path
from typing import Any

from gateway.control.config.generations import GenerationFactory
from gateway.control.config.memory import RememberedRelease
from gateway.control.config.resolve import ResolvedRouting, ResolveInput, resolve
from gateway.control.release.decisions import DecisionLog
from gateway.messages import NO_PROCESSES, ConfigGeneration, ProcessSockets
from gateway.settings.routing import RoutingSettings
from gateway.shm.slots import Slots
from gateway.shm.switchboard import Switchboard


def resolved(entry: dict[str, Any], before: RememberedRelease) -> ResolvedRouting:
    routing = RoutingSettings.model_validate({"models": {"m": entry}})
    return resolve(routing, ResolveInput({"m": before}, {"m": [1, 2, 3]}), "routing.yaml")


def generation(folder: Path, one: ResolvedRouting, sockets: ProcessSockets = NO_PROCESSES) -> ConfigGeneration:
    board, log = Switchboard.create(folder / "board", 1), DecisionLog(folder / "state")
    factory = GenerationFactory(Slots(8, "versions"), Slots(8, "releases"), board, log)
    log.close()
    return factory.make(1, one, sockets)


def test_version_that_was_stable_is_kept_until_other_versions_are_named(tmp_path: Path) -> None:
    promoted = resolved({"stable": 2}, RememberedRelease(1, 2))
    config = generation(tmp_path, promoted)
    assert (config.kept, set(config.versions)) == ({"m": 1}, {("m", 1), ("m", 2)})
    for entry in ({"stable": 2, "candidate": 3}, {"stable": 3}, {"stable": 1}):
        assert generation(tmp_path, resolved(entry, promoted.memory["m"])).kept == {}


def test_nothing_is_kept_where_stable_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    promoted = resolved({"stable": 2}, RememberedRelease(1, 2))
    config = generation(tmp_path, promoted, ProcessSockets({("m", 2): "@socket"}))
    assert (config.kept, set(config.versions)) == ({}, {("m", 2)})
