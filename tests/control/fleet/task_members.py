"""A membership, as far as what one host does for a fleet needs one, whose contact a test sets."""

from gateway.control.fleet.host import HostState, Observed
from gateway.control.fleet.store_state import Identity, Member
from gateway.control.fleet.timing import Timing

TIMING = Timing(1_000_000_000, 100_000_000)


class TaskMember:
    """`clock`: one number, the time in ns."""

    timing = TIMING

    def __init__(self, name: str, clock: list[int]) -> None:
        self.host = HostState(name, f"host-{name}", open=True, settled=True, identity=Identity("r", "k"))
        self._clock = clock

    def now_ns(self) -> int:
        return self._clock[0]

    def see(self, names: dict[str, int]) -> None:
        """A beat, which sees these members and their beats."""
        now_ns, before = self.now_ns(), self.host.observed
        found = {name: Member(beat, 0, False, f"host-{name}") for name, beat in names.items()}
        observed = {
            name: before[name] if name in before and before[name].beat == beat else Observed(beat, now_ns)
            for name, beat in names.items()
        }
        steady_ns = self.host.steady_since_ns if now_ns < self.host.contact_until_ns else now_ns
        self.host = self.host._replace(
            steady_since_ns=steady_ns, members=found, observed=observed, contact_until_ns=now_ns + TIMING.lease_ns
        )
