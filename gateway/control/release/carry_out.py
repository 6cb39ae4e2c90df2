"""Carries out what release controllers decide, and records it: all but the weights, which the manager sets."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway.control.release.actions import Action, Advance, Complete, Continue, Pause, Restart, SetWeight, Stop
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.control.release.managed_release import RAMP, ManagedRelease
from gateway.shm.switchboard import Switchboard

_RECORDED: Final[tuple[type[Action], ...]] = (Pause, Continue, Advance, Complete, Restart)
ACTION_NAMES: Final = {action: action.__name__.lower() for action in _RECORDED}
_BY: Final[dict[type[Action], str]] = {Restart: "upgrade"}
StopNow = Callable[[str, int, str, str, dict[str, Any]], ReleaseDecision]
log: Final = logging.getLogger("gateway.control.release")


class ActionRunner:
    """`stop_now` stops a release."""

    def __init__(self, board: Switchboard, decision_log: DecisionLog, stop_now: StopNow) -> None:
        self._board = board
        self._decision_log = decision_log
        self._stop_now = stop_now

    def run(self, one: ManagedRelease, actions: Sequence[Action]) -> None:
        """Carry out the actions, in order."""
        for action in actions:
            self._run(one, action)

    def fail(self, one: ManagedRelease, error: Exception) -> None:
        """Stop a release whose controller has failed: no candidate without guards."""
        if not self._board.stopped(one.slot):
            log.exception("the release controller of '%s' has failed", one.name)
            reason = f"the release controller has failed, so the candidate is stopped ({type(error).__name__}: {error})"
            self._stop_now(one.name, one.candidate, "controller", reason, {})

    def _run(self, one: ManagedRelease, action: Action) -> None:
        name, candidate = one.name, one.candidate
        match action:
            case Stop():
                self._stop_now(name, candidate, action.guard, action.reason, action.evidence)
            case SetWeight():
                if action.evidence["while"] and not self._board.stopped(one.slot):
                    evidence = {**action.evidence, "route": action.route, "weight_ppm": action.weight_ppm}
                    self._decision_log.record(name, candidate, "weight", "while", action.reason, evidence)
            case _:
                by = action.guard if isinstance(action, Pause | Continue) else _BY.get(type(action), RAMP)
                self._decision_log.record(
                    name, candidate, ACTION_NAMES[type(action)], by, action.reason, action.evidence
                )
                log.info("'%s': %s by %s: %s", name, ACTION_NAMES[type(action)], by, action.reason)
