"""What versions count on and releases are stopped by: memory shared with the control process, or none."""

from collections.abc import Mapping

from gateway.errors import ModelUnavailable
from gateway.shm.scoreboard import Scoreboard, Tally, Totals
from gateway.shm.switchboard import Gate, OpenSwitch, Switch, Switchboard

Key = tuple[str, int]  # a model and a version


class Instruments:
    """Those of a process on its own: nothing is shared, and no one can stop a release."""

    def __init__(self) -> None:
        self._tallies: dict[Key, Tally] = {}

    def tally(self, name: str, version: int) -> Tally:
        """Where to count for a version."""
        return self._tallies.setdefault((name, version), Tally())

    def switch(self, name: str, candidate: int | None) -> Switch | OpenSwitch:
        """What stops the release of `candidate`."""
        return OpenSwitch()

    def totals(self, name: str, version: int) -> tuple[Totals, int]:
        """What all workers have counted for a version, and when the last of them answered (monotonic ns; 0: never)."""
        totals = self.tally(name, version).read()
        return totals, totals.last_success_ns()


class SharedInstruments(Instruments):
    """Those of one worker. `versions` and `releases` say which slot each has on the boards."""

    def __init__(
        self,
        switchboard: Switchboard,
        scoreboard: Scoreboard,
        worker: int,
        dead_after_ns: int,
        versions: Mapping[Key, int],
        releases: Mapping[Key, int],
    ) -> None:
        super().__init__()
        self._switchboard = switchboard
        self._scoreboard = scoreboard
        self._worker = worker
        self._dead_after_ns = dead_after_ns
        self._versions = versions
        self._releases = releases
        self.gate = Gate(switchboard, worker)
        self.head = scoreboard.head(worker)

    def learn(self, versions: Mapping[Key, int], releases: Mapping[Key, int]) -> None:
        """A new configuration has more slots; those given before stay as they are."""
        self._versions = versions
        self._releases = releases

    def tally(self, name: str, version: int) -> Tally:
        if (name, version) not in self._versions:
            raise ModelUnavailable(f"version {version} of '{name}' came while the configuration was being loaded")
        return self._scoreboard.tally(self._worker, self._versions[name, version])

    def switch(self, name: str, candidate: int | None) -> Switch | OpenSwitch:
        if candidate is None:
            return OpenSwitch()
        return Switch(self._switchboard, self._releases[name, candidate], self._worker, self._dead_after_ns)

    def totals(self, name: str, version: int) -> tuple[Totals, int]:
        slot = self._versions[name, version]
        return self._scoreboard.totals(slot), self._scoreboard.last_success_ns(slot)
