"""The stops of this host that are not known to hold on all hosts yet."""

from collections.abc import Iterable, Sequence

from gateway.control.fleet.host import HostState
from gateway.control.fleet.stop_call import StopCall, StopOutcome, follow, outcome
from gateway.control.fleet.store_state import Exchange, Reply
from gateway.control.fleet.timing import Timing


class PendingStop:
    """One stop. `settled`: CONFIRMED or RESUMED once it is; None while it waits. `awaited`: a command waits for it."""

    __slots__ = ("awaited", "call", "settled")

    def __init__(self, call: StopCall) -> None:
        self.call = call
        self.settled: StopOutcome | None = None
        self.awaited = True


class PendingStops:
    """All of them, in the order of their calls."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._stops: list[PendingStop] = []

    @property
    def releases(self) -> frozenset[str]:
        """The releases that they stop."""
        return frozenset(stop.call.release for stop in self._stops)

    @property
    def awaited(self) -> bool:
        """Whether a command waits for one of them: then beats follow each other soon."""
        return any(stop.awaited for stop in self._stops)

    def of(self, release: str) -> Sequence[PendingStop]:
        """Those of one release."""
        return [stop for stop in self._stops if stop.call.release == release]

    def add(self, call: StopCall) -> PendingStop:
        """Begin to follow a stop, instead of earlier ones of the release that no command waits for any more."""
        stop = PendingStop(call)
        self._stops = [one for one in self._stops if one.awaited or one.call.release != call.release] + [stop]
        return stop

    def follow(self, host: HostState, now_ns: int, request: Exchange, reply: Reply) -> None:
        """Take in a reply, after the host has."""
        for stop in self._stops:
            stop.call = follow(stop.call, host, now_ns, request, reply)
        self.settle(host, now_ns)

    def settle(self, host: HostState, now_ns: int) -> None:
        """End those that are confirmed by now."""
        for stop in self._stops:
            if outcome(stop.call, host, now_ns, self._timing) is StopOutcome.CONFIRMED:
                stop.settled = StopOutcome.CONFIRMED
        self._keep_unsettled()

    def withdraw(self, stops: Iterable[PendingStop]) -> None:
        """End these, since the release was resumed after them."""
        for stop in stops:
            stop.settled = StopOutcome.RESUMED
        self._keep_unsettled()

    def _keep_unsettled(self) -> None:
        self._stops = [stop for stop in self._stops if stop.settled is None]
