"""Startup: chooses the releases to serve, from the routing file, or from the release memory if the file is refused."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.repository import Repository
from gateway.control.config.acceptance import RoutingAcceptance, ValidatedRouting
from gateway.control.config.memory import ReleaseMemory
from gateway.control.config.mounted_memory import write_after_decisions
from gateway.control.config.mounted_models import create_repository, link_mounted
from gateway.control.config.mounted_routing import prepare_routing
from gateway.control.config.named_versions import named_by
from gateway.control.config.resolve import ResolvedRouting
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.proposals.journal import undo_interrupted
from gateway.control.release.decisions import DecisionLog
from gateway.control.release.inherited_stops import InheritedStops
from gateway.control.release.persistence import STATES_FILE, forget_states
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.shm.claim import Claim
from gateway.shm.owner import BOARD
from gateway.shm.stopped import PreviousBoard
from gateway.shm.switchboard import Switchboard

log: Final = logging.getLogger("gateway.control.config")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupState:
    """What the control plane starts from. `validated`: None if the file was refused and the memory is served
    instead.
    """

    repository: Repository
    routing_file: RoutingFileWatcher
    decision_log: DecisionLog
    acceptance: RoutingAcceptance
    resolved: ResolvedRouting
    validated: ValidatedRouting | None
    shared_memory: Claim
    inherited: InheritedStops


def open_state(settings: GatewaySettings, memory: Claim) -> StartupState:
    """Open the state folder and choose the releases; for a thread. Raises SettingsError if the file is refused and
    nothing is remembered, ValueError if the stops cannot be read.
    """
    state = Path(settings.state)
    if settings.models.mounted is not None:
        create_repository(settings)
    repository = Repository(Path(settings.models.path))
    decision_log = DecisionLog(state, settings.records.retain_decisions)
    try:
        board = memory.path.with_suffix(BOARD)
        Switchboard.expire_heartbeat(board)  # stops all candidates in orphans, which no stop would reach
        inherited = InheritedStops(state, PreviousBoard(board), decision_log)
        routing = Path(settings.routing)
        acceptance = RoutingAcceptance(state, repository, decision_log, str(routing))
        undo_interrupted(state, named_by(routing, acceptance.memory))  # its number may be mounted by now
        if settings.models.mounted is not None:
            open_mounted(settings, decision_log, acceptance.memory)
        routing_file = RoutingFileWatcher(
            routing,
            repository,
            load_timeout_s=settings.models.load_timeout,
            has_registry=settings.registry is not None,
        )
        resolved, validated = _choose_releases(routing_file, acceptance)
    except BaseException:
        decision_log.close()
        raise
    return StartupState(
        repository=repository,
        routing_file=routing_file,
        decision_log=decision_log,
        acceptance=acceptance,
        resolved=resolved,
        validated=validated,
        shared_memory=memory,
        inherited=inherited,
    )


def open_mounted(settings: GatewaySettings, decision_log: DecisionLog, remembered: ReleaseMemory) -> None:
    """Link what is mounted, and what follows from that. All of it is done again if the start is killed before the end,
    where it is remembered.
    """
    state = Path(settings.state)
    linked = link_mounted(settings)
    memory = prepare_routing(settings, linked, decision_log.stopped_keys(), remembered)
    forget_states(state / STATES_FILE, {version.key for version in linked.replaced})
    for version in linked.replaced:
        version.record(decision_log, in_fleet=settings.fleet is not None)
    write_after_decisions(state, memory, decision_log)


def _choose_releases(
    routing_file: RoutingFileWatcher, acceptance: RoutingAcceptance
) -> tuple[ResolvedRouting, ValidatedRouting | None]:
    try:
        now = routing_file.read()
        assert now is not None
        validated = acceptance.validate(now)
        _try_new_stables(routing_file, acceptance, validated.resolved)
        routing_file.record_success()  # the revision that was read: the file may have changed since the first snapshot
    except SettingsError as error:
        closed = acceptance.with_candidates_closed()
        if closed is None:
            raise
        routing_file.record_failure(error)
        routing_file.mark_candidates_closed(acceptance.revision)
        log.error(
            "the routing file is refused; stable versions are served as remembered, and no candidate receives traffic"
            " until the file is fixed:\n%s",
            error,
        )
        return closed, None
    return validated.resolved, validated


def _try_new_stables(
    routing_file: RoutingFileWatcher, acceptance: RoutingAcceptance, resolved: ResolvedRouting
) -> None:
    """If a memory exists that could be served instead, refuse a file whose stable version does not load."""
    if not acceptance.memory:
        return
    remembered = {(name, one.stable) for name, one in acceptance.memory.items()}
    trials = routing_file.needed_trials(resolved.routing, remembered)
    stables = [trial for trial in trials if trial.version == trial.stable and trial.name in resolved.configured]
    if stables:
        routing_file.run_trials(stables, resolved.configured)
