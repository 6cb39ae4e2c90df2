"""Stop and resume, by a person or by the fleet: what is done on this host, and what is asked of the fleet."""

import contextlib
import logging
from typing import Any, Final, Protocol

from gateway.control.config.acceptance import RoutingAcceptance
from gateway.control.config.file_snapshot import FileStat
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.fleet.confirmation import Confirmation
from gateway.control.fleet.membership import Membership
from gateway.control.pool.send_fence import wait_for_inflight_sends
from gateway.control.pool.worker_pool import WorkerPool
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.control.release.disk import DiskThread, DiskTimeout
from gateway.control.release.manager import ReleaseManager
from gateway.control.release.trip_decisions import Served, TripHandler
from gateway.control.stop import UNKNOWN_STAT, CandidateStopper
from gateway.errors import Conflict
from gateway.settings.routing import ReleaseSettings
from gateway.shm.slots import ReleaseSlots
from gateway.shm.switchboard import Switchboard
from gateway.system.scheduling import set_realtime

FILE_CHECK_TIMEOUT_S: Final = 0.2
log: Final = logging.getLogger("gateway.control")


class CommandContext(Protocol):
    """What the commands need of the control plane."""

    acceptance: RoutingAcceptance
    board: Switchboard
    decision_log: DecisionLog
    fleet: Membership | None
    pool: WorkerPool
    release_manager: ReleaseManager
    releases: ReleaseSlots
    routing_file: RoutingFileWatcher
    served: Served
    stopper: CandidateStopper
    trip_handler: TripHandler

    def settings_of(self, name: str) -> ReleaseSettings: ...


class StopAndResume:
    """Runs on control's loop."""

    def __init__(self, control: CommandContext) -> None:
        self._control = control
        self._file_check = DiskThread("look", FILE_CHECK_TIMEOUT_S, set_realtime)

    async def stop(
        self, name: str, by: str, reason: str, evidence: dict[str, Any]
    ) -> tuple[ReleaseDecision, Confirmation | None]:
        """Stop the model's candidates. Once this returns, no response comes from any of them, nor from the candidate of
        an edit that is being loaded; in a fleet none on any host, if the stop is confirmed. Raises NotFound, or
        Conflict if there is no candidate.
        """
        control, said = self._control, (by, reason, evidence)
        try:
            decisions = control.stopper.stop_model(name, self._view(name), *said)
        except Conflict:
            control.settings_of(name)
            raise
        unread = await self._unread()  # meanwhile the decision is written
        if unread is not None:
            control.stopper.record_unread_file(name, unread)
            decisions += control.stopper.stop_model(name, self._view(name), *said)  # it may have been read meanwhile
        await self._wait_durable(name)
        await self.fence()
        if control.fleet is None:
            return decisions[0], None
        return decisions[0], await control.fleet.confirm({(name, one.candidate) for one in decisions}, by, reason)

    async def resume(self, name: str, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Resume a stopped release in a new epoch, in a fleet on all hosts. Raises NotFound; Conflict if it is not
        stopped or the fleet's store does not answer.
        """
        control = self._control
        control.acceptance.refuse_if_closed(name, control.routing_file.status.candidates_closed)
        candidate = self._candidate(name)
        if not control.board.stopped(control.releases.of(name, candidate)):
            raise Conflict(f"'{name}' is not stopped")
        if name not in control.pool.config.configured:
            raise Conflict(f"'{name}' has no entry in the routing file any more; add it again, then resume it")
        if control.fleet is None:
            decision = self.resume_here(name, candidate, by, reason, evidence)
        else:
            await control.fleet.resume((name, candidate), by, reason, evidence)
            resumed = control.decision_log.last(name, candidate, "resume")
            if control.decision_log.stopped(name, candidate) is not None or resumed is None:
                raise Conflict(f"'{name}' was stopped again meanwhile")
            decision = resumed
        await self._wait_durable(name)
        return decision

    def stop_here(self, name: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Stop the release on this host, whether or not it is served."""
        served = (name, candidate) in self._control.releases
        stop = self._control.stopper.stop if served else self._control.decision_log.stop
        return stop(name, candidate, by, reason, evidence)

    def resume_here(self, name: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Resume the release on this host, whether or not it is served."""
        control = self._control
        decision = control.decision_log.resume(name, candidate, by, reason, evidence)
        control.trip_handler.forget(name, candidate)
        if candidate == getattr(self._view(name), "candidate", None):  # an older one says nothing of the present one
            control.stopper.resumed(name)
            control.release_manager.close_routes(name)  # else the stopped step's weights would apply until the tick
        if (name, candidate) in control.releases:
            control.board.resume(control.releases.of(name, candidate))
        return decision

    async def fence(self) -> None:
        """Wait until every send of a candidate's answer that has begun has ended."""
        await wait_for_inflight_sends(self._control.board, self._control.pool)

    def _candidate(self, name: str) -> int:
        self._control.settings_of(name)
        candidate = getattr(self._view(name), "candidate", None)
        if candidate is None:
            raise Conflict(f"'{name}' has no candidate; stable answers every request")
        return int(candidate)

    def _view(self, name: str) -> ReleaseSettings | None:
        control = self._control
        closed = control.routing_file.status.candidates_closed
        if not closed or name not in control.served or name not in control.acceptance.memory:
            return control.served.get(name)
        return control.acceptance.memory[name].release()  # closed at present; the stop holds once the file is fixed

    async def _unread(self) -> FileStat | None:
        """The file's standing if it holds an unread edit, else None; UNKNOWN if the disk does not answer in time."""
        with contextlib.suppress(DiskTimeout):
            return await self._file_check.run(self._control.routing_file.unread)
        return UNKNOWN_STAT

    async def _wait_durable(self, name: str) -> None:
        if not await self._control.decision_log.wait_durable():
            log.error("the decision on '%s' is in force, but not on disk yet; a restart would undo it", name)
