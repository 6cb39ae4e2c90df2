"""What all faults have in common: a stop while clients ask, what must hold after it, a resume, and what was seen."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from gateway.control.fleet.assembly import MARGIN_NS
from gateway.control.fleet.timing import Timing
from loadtests.fleet.rig.hosts import Host, Told
from loadtests.fleet.rig.rig import LEASE_S, Rig

TIMING: Final = Timing(round(LEASE_S * 1e9), MARGIN_NS)
LONGEST_S: Final = TIMING.longest_ns / 1e9
MORE_S: Final = 0.5  # what a stop may take beyond the longest lease when a host is cut off
OPENS_WITHIN_S: Final = 2 * LONGEST_S  # a host in contact
RECOVERED_WITHIN_S: Final = 20.0
STARTED_WITHIN_S: Final = 90.0  # on cores that are saturated
LOOK_S: Final = 0.05


@dataclass(slots=True)
class Row:
    """What was seen of one fault, all its times together. `wrong`: expectations that did not hold.

    `limit_ms`: for the stop; 0: none.
    """

    name: str
    limit_ms: float = 0.0
    times: int = 0
    stop_ms: list[float] = field(default_factory=list)
    answers: int = 0
    late: int = 0
    failed: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        slow = self.limit_ms and self.stop_ms and max(self.stop_ms) > self.limit_ms
        return not (slow or self.late or self.failed or self.lost or self.wrong)


class Course:
    """Runs faults in turn on one rig; each leaves it as it was: whole, and the candidate resumed."""

    def __init__(self, rig: Rig, row: Row) -> None:
        self.rig = rig
        self.watch = rig.watch
        self.row = row
        self._caller = ThreadPoolExecutor(1, "caller")

    def run(self, fault: Callable[["Course"], None]) -> None:
        """Once; what was seen is added to the row."""
        watch = self.watch
        before = watch.answers, watch.late.total(), watch.failed, watch.lost
        fault(self)
        watch.settle()
        failed = watch.failed - before[2]
        self.row.times += 1
        self.row.answers += watch.answers - before[0]
        self.row.late += watch.late.total() - before[1]
        self.row.failed += failed.total()
        self.row.lost += watch.lost - before[3]
        self.row.wrong += [f"failed: {text}" for text in list(failed)[:3]]

    def expect(self, holds: object, text: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.row.wrong.append(text)

    def take_in(self, host: Host) -> None:
        """Go on asking until this host, which has been started, serves, then ask it too. Raises SystemExit."""
        if not self.until(host.healthy, f"{host.name} serves", STARTED_WITHIN_S):
            raise SystemExit(f"{host.name} does not serve:\n{host.log[-4000:]}")
        self.watch.take_in(host)

    def until(self, done: Callable[[], bool], text: str, within_s: float = RECOVERED_WITHIN_S) -> bool:
        """Go on asking until `done`, which is looked at now and then; noted if it takes too long."""
        looked_s = 0.0

        def look() -> bool:
            nonlocal looked_s
            if time.monotonic() - looked_s < LOOK_S:
                return False
            looked_s = time.monotonic()
            return done()

        found = self.watch.until(look, within_s)
        self.expect(found, f"not within {within_s:g} s: {text}")
        return found

    def stop(self, host: Host, *, confirmed: bool = True, everywhere: bool = True) -> Told:
        """Stop the candidate while clients go on asking. `everywhere`: from its return on no candidate may answer."""
        call = self._caller.submit(host.stop)
        self.watch.until(call.done, RECOVERED_WITHIN_S)
        if everywhere:
            self.watch.forbid()
        told = call.result()
        self.row.stop_ms.append(told.ms)
        self.expect(told.status == 200 and told.confirmed == confirmed, f"the stop on {host.name}: {told}")
        return told

    def resume(self, host: Host) -> None:
        """Resume the candidate, as soon as the fleet allows it, and have all hosts answer from it."""
        end = time.monotonic() + RECOVERED_WITHIN_S
        while True:
            self.watch.allow()
            told = host.resume()
            if told.status == 200 or time.monotonic() > end:
                break
            self.watch.forbid()
            self.watch.busy(0.1)
        self.expect(told.status == 200, f"the resume on {host.name}: {told}")
        closed = self.watch.until_all_answer_from_candidates(RECOVERED_WITHIN_S)
        self.expect(not closed, f"no answer from the candidate after the resume: {', '.join(closed)}")

    def all_know(self) -> None:
        """Wait until every host says that the candidate is stopped, and longer than one in contact takes to open."""
        self.until(lambda: all(host.stopped() for host in self.rig.hosts), "every host knows the stop")
        self.watch.busy(OPENS_WITHIN_S)

    def close(self) -> None:
        """End the caller's thread."""
        self._caller.shutdown()
