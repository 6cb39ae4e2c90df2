"""What the exchange of a model's release reads and sets on this host: membership, switchboard, decisions."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.control.fleet.counters import NO_TOTALS
from gateway.control.fleet.host import HostState
from gateway.control.fleet.releases import release_name
from gateway.control.fleet.store_state import FIRST
from gateway.control.fleet.timing import Timing
from gateway.control.guards.observation import Observation
from gateway.control.guards.window import Sample
from gateway.control.release.actions import Action, Stop
from gateway.control.release.carry_out import ActionRunner
from gateway.control.release.managed_release import ManagedRelease, class_counts
from gateway.settings.routing import ReleaseSettings
from gateway.shm.tally import BLOCK


class Member(Protocol):
    """What is read of a membership."""

    fleet: str
    host: HostState
    timing: Timing

    def now_ns(self) -> int: ...


class Manager(Protocol):
    """What is used of the release manager."""

    actions: ActionRunner

    def now_s(self) -> float: ...
    def stopped(self, one: ManagedRelease) -> bool: ...
    def put_weights(self, one: ManagedRelease, weights_ppm: Sequence[int]) -> None: ...


class Place:
    """This host."""

    def __init__(self, member: Member, manager: Manager) -> None:
        self._member = member
        self._manager = manager
        self.timing = member.timing

    @property
    def host(self) -> HostState:
        """Its part in the fleet."""
        return self._member.host

    @property
    def incarnation(self) -> str:
        """Its name in the store."""
        return self._member.host.incarnation

    @property
    def fleet(self) -> str:
        """The fleet's name."""
        return self._member.fleet

    def now_ns(self) -> int:
        """The time on the clock of all leases."""
        return self._member.now_ns()

    def now_s(self) -> float:
        """The time on the controllers' clock."""
        return self._manager.now_s()

    def epoch(self, one: ManagedRelease) -> int:
        """The fleet's epoch of the release."""
        return self.host.words.get(release_name(one.name, one.candidate), FIRST).epoch

    def observation(self, one: ManagedRelease, sums: Sample) -> Observation:
        """What the hosts' counters say by now, without events."""
        return Observation(
            time_ns=time.time_ns(),
            epoch=self.epoch(one),
            stopped=self.stopped(one),
            window=one.window,
            classes=class_counts(sums.stable, sums.candidate or NO_TOTALS),
        )

    def put_weights(self, one: ManagedRelease, weights_ppm: Mapping[str, int]) -> None:
        """Set the weights of the live routes; a route without one is closed."""
        self._manager.put_weights(one, [weights_ppm.get(route, 0) for route in one.live])

    def stopped(self, one: ManagedRelease) -> bool:
        """Whether the release is stopped on this host."""
        return self._manager.stopped(one)

    def run(self, one: ManagedRelease, actions: Sequence[Action], epoch: int) -> None:
        """Carry out what a controller has decided in this epoch of the fleet. A stop has no effect on a later epoch,
        nor on what is stopped already.
        """
        for action in actions:
            if not isinstance(action, Stop) or (epoch == self.epoch(one) and not self.stopped(one)):
                self._manager.actions.run(one, (action,))

    def fail(self, one: ManagedRelease, error: Exception) -> None:
        """Stop a release whose controller has failed."""
        self._manager.actions.fail(one, error)


def fingerprint(settings: ReleaseSettings) -> str:
    """A text that is the same on hosts with the same settings of a release and the same layout of counters, also on
    those of the release before: what has come since counts only where it is used.
    """
    text = f"{BLOCK} {settings.model_dump_json(by_alias=True, exclude={'registry'})}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
