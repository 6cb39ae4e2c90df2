"""Whether this host of a fleet can follow the registry for the others: not for models whose edits it has not made.

A host whose routing file refuses an edit for good, as one that is mounted read-only, has another release in force than
the others. As the leader it gives that up, if another host has made more of the edits.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from gateway.control.fleet.routing_state import RoutingCore, RoutingRecord, number_of
from gateway.control.fleet.routing_step import Due, Stand
from gateway.control.fleet.task_leadership import SILENT_NS

PATIENCE_NS: Final = SILENT_NS  # an edit that is to be made here may come into force yet
GIVEN_UP_NS: Final = 2 * SILENT_NS  # then this host goes on, if no other one has taken the lead


class Exchange(Protocol):
    """What is read of a host's exchange of edits. `refused`: by model, why its edits cannot be made here."""

    core: RoutingCore
    records: Mapping[str, RoutingRecord]
    refused: dict[str, str]

    @property
    def me(self) -> str: ...
    @property
    def present(self) -> Collection[str]: ...
    def due(self, model: str) -> Due: ...


class Routing(Protocol):
    """What is read of a host's routing edits."""

    problem: str

    @property
    def exchange(self) -> Exchange: ...


class Readiness:
    """`bound`: the models that follow the registry. `routing`: None without a fleet. `now_ns`: the time."""

    def __init__(
        self, bound: Callable[[], Collection[str]], routing: Callable[[], Routing | None], now_ns: Callable[[], int]
    ) -> None:
        self._bound = bound
        self._routing = routing
        self._now_ns = now_ns
        self._lacking: frozenset[tuple[str, str]] = frozenset()  # models, each with the id of the newest edit
        self._since_ns = 0

    def behind(self, model: str) -> bool:
        """Whether edits of the model's entry that other hosts have made are still to be made here, as far as is known:
        the release in force here is then an older one than that of the others.
        """
        routing = self._routing()
        return routing is not None and (bool(routing.problem) or routing.exchange.due(model).stand is Stand.BEHIND)

    def behind_all(self) -> bool:
        """Whether no model could be followed for the fleet here."""
        bound = self._bound()
        return bool(bound) and all(map(self.behind, bound))

    def refusal(self, model: str) -> str:
        """Why an edit of the model's entry cannot be made here; empty if it can, or is made."""
        routing = self._routing()
        return routing.exchange.refused.get(model, "") if routing is not None and self.behind(model) else ""

    def gives_up(self) -> bool:
        """Whether this host, if it leads, is to leave that to another one, which has made more of the edits. Once for
        the same edits, so that none is without a leader for long if no other host takes over.
        """
        routing = self._routing()
        if routing is None or routing.problem:
            return False
        exchange, bound = routing.exchange, self._bound()
        lacking = frozenset((model, exchange.core.newest(model)) for model in bound if self.behind(model))
        now_ns = self._now_ns()
        if lacking != self._lacking:
            self._lacking, self._since_ns = lacking, now_ns
        if not PATIENCE_NS <= now_ns - self._since_ns < PATIENCE_NS + GIVEN_UP_NS:
            return False
        others = (exchange.records[one] for one in exchange.records.keys() & set(exchange.present) - {exchange.me})
        return any(_lacks(one, bound, exchange.core) < len(lacking) for one in others if one.revision)


def _lacks(record: RoutingRecord, bound: Collection[str], core: RoutingCore) -> int:
    """Of how many models that host has not made the newest edit."""
    made = {model: number_of(record.applied.get(model, "")) for model in bound}
    return sum(model in record.waiting or made[model] < number_of(core.newest(model)) for model in bound)
