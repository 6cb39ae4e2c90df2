"""What the release manager hands to a fleet, one of whose hosts runs the controllers on what all have seen."""

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.control.guards.observation import Randomised
from gateway.control.guards.window import Sample
from gateway.control.release.managed_release import ManagedRelease
from gateway.control.release.stages import Event


class Sharing(Protocol):
    """Takes the place of the controllers' steps on this host."""

    def collect(self, one: ManagedRelease, epoch: int, sample: Sample, randomised: Randomised) -> None:
        """Take what the release has seen since the last call. `epoch`: the switchboard's; `sample`, `randomised`: the
        counters by now.
        """

    def command(self, one: ManagedRelease, event: Event, by: str) -> None:
        """Let the leader apply a person's hold, continue or promotion. Raises Conflict if it cannot be done."""

    def memory(self, one: ManagedRelease) -> Mapping[str, Any]:
        """What is to be kept of the release for the next process, beside the controller's state."""
