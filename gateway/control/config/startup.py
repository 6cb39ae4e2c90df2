"""Startup: chooses the releases to serve, from the routing file, or from the release memory if the file is refused."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.repository import Repository
from gateway.control.config.acceptance import Accepting, Judged
from gateway.control.config.resolve import Resolved
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.release.decisions import DecisionLog
from gateway.control.release.inherited_stops import Inherited
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.shm.claim import Claim
from gateway.shm.owner import BOARD
from gateway.shm.stopped import LeftBoard
from gateway.shm.switchboard import Switchboard

log: Final = logging.getLogger("gateway.control.config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the control plane starts from. `judged`: None if the file was refused and the memory is served instead."""

    repository: Repository
    configuration: RoutingFileWatcher
    stops: DecisionLog
    accepting: Accepting
    resolved: Resolved
    judged: Judged | None
    memory: Claim
    inherited: Inherited


def opened(settings: GatewaySettings, memory: Claim) -> Opening:
    """Open the state folder and choose the releases; for a thread. Raises SettingsError if the file is refused and
    nothing is remembered, ValueError if the stops cannot be read.
    """
    state = Path(settings.state)
    repository = Repository(Path(settings.models.path))
    configuration = RoutingFileWatcher(Path(settings.routing), repository, load_timeout_s=settings.models.load_timeout)
    stops = DecisionLog(state, settings.records.retain_decisions)
    try:
        board = memory.path.with_suffix(BOARD)
        Switchboard.expire_heartbeat(board)  # stops all candidates in orphans, which no stop would reach
        inherited = Inherited(state, LeftBoard(board), stops)
        accepting = Accepting(state, repository, stops, str(configuration.path))
        resolved, judged = _chosen(configuration, accepting)
    except BaseException:
        stops.close()
        raise
    return Opening(
        repository=repository,
        configuration=configuration,
        stops=stops,
        accepting=accepting,
        resolved=resolved,
        judged=judged,
        memory=memory,
        inherited=inherited,
    )


def _chosen(configuration: RoutingFileWatcher, accepting: Accepting) -> tuple[Resolved, Judged | None]:
    try:
        now = configuration.read()
        assert now is not None
        judged = accepting.judge(now)
        _try_new_stables(configuration, accepting, judged.resolved)
        configuration.succeeded()  # the revision that was read: the file may have changed since the first snapshot
    except SettingsError as error:
        closed = accepting.closed()
        if closed is None:
            raise
        configuration.failed(error)
        configuration.closed(accepting.revision)
        log.error(
            "the routing file is refused; stable versions are served as remembered, and no candidate receives traffic"
            " until the file is fixed:\n%s",
            error,
        )
        return closed, None
    return judged.resolved, judged


def _try_new_stables(configuration: RoutingFileWatcher, accepting: Accepting, resolved: Resolved) -> None:
    """If a memory exists that could be served instead, refuse a file whose stable version does not load."""
    if not accepting.memory:
        return
    remembered = {(name, one.stable) for name, one in accepting.memory.items()}
    trials = configuration.trials(resolved.routing, remembered)
    stables = [trial for trial in trials if trial.version == trial.stable and trial.name in resolved.named]
    if stables:
        configuration.try_out(stables, resolved.named)
