"""Whether this host of a fleet can follow the registry for the others: not for models whose edits it has not made.

A host whose routing file refuses an edit for good, as one that is mounted read-only, has another release in force than
the others. As the leader it gives that up, if another host has made more of the edits.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from gateway.control.fleet.routing_state import RoutingCore, RoutingRecord, number_of
from gateway.control.fleet.routing_step import Due, Stand
from gateway.control.fleet.task_leadership import SILENT_NS
from gateway.control.registry.lead import Lead

PATIENCE_NS: Final = SILENT_NS  # an edit that is to be made here may come into force yet


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
        self,
        bound: Callable[[], Collection[str]],
        routing: Callable[[], Routing | None],
        lead: Lead,
        now_ns: Callable[[], int],
    ) -> None:
        self._bound = bound
        self._routing = routing
        self._lead = lead
        self._now_ns = now_ns
        self._about: tuple[object, ...] = ()  # what is lacking here, as which leader, and which hosts have it
        self._since_ns = 0

    def behind(self, model: str) -> bool:
        """Whether edits of the model's entry that other hosts have made are still to be made here, as far as is known:
        the release in force here is then an older one than that of the others.
        """
        routing = self._routing()
        return routing is not None and (bool(routing.problem) or routing.exchange.due(model).stand is Stand.BEHIND)

    def is_unready(self) -> bool:
        """Whether this host is to leave a lead that is free, or given up, to others for some time: no model could be
        followed for the fleet here, or another host could follow more of them.
        """
        bound = self._bound()
        return bool(self._lead.unreadable or (bound and all(map(self.behind, bound))) or self._able(self._lacking()))

    def refusal(self, model: str) -> str:
        """Why an edit of the model's entry cannot be made here; empty if it can, or is made."""
        routing = self._routing()
        return routing.exchange.refused.get(model, "") if routing is not None and self.behind(model) else ""

    def gives_up(self) -> bool:
        """Whether this host, which leads, is to leave that to another one, which has made more of the edits, or may be
        able to read what was found before. Once for the same edits, hosts and time as the leader, so that none is
        without a leader for long if no other host takes over.
        """
        lacking, unreadable = self._lacking(), bool(self._lead.unreadable)
        able = self._able(lacking)
        about, now_ns = (lacking, able, unreadable, self._lead.taken), self._now_ns()
        if about != self._about:
            self._about, self._since_ns = about, now_ns
        return bool(able) and PATIENCE_NS <= now_ns - self._since_ns < PATIENCE_NS + self._lead.given_up_ns

    def _lacking(self) -> frozenset[tuple[str, str]]:
        """The models whose newest edit is still to be made here, each with the edit's id."""
        routing = self._routing()
        if routing is None or routing.problem:
            return frozenset()
        core = routing.exchange.core
        return frozenset((model, core.newest(model)) for model in self._bound() if self.behind(model))

    def _able(self, lacking: Collection[tuple[str, str]]) -> frozenset[str]:
        """The other hosts in contact that could follow more models, as far as is known."""
        routing, unreadable = self._routing(), bool(self._lead.unreadable)
        if routing is None or routing.problem or not (lacking or unreadable):
            return frozenset()
        exchange, bound = routing.exchange, self._bound()
        others = exchange.records.keys() & set(exchange.present) - {exchange.me}
        known = {one: exchange.records[one] for one in others if exchange.records[one].revision}
        return frozenset(
            name for name, one in known.items() if unreadable or _lacks(one, bound, exchange.core) < len(lacking)
        )


def _lacks(record: RoutingRecord, bound: Collection[str], core: RoutingCore) -> int:
    """Of how many models that host has not made the newest edit."""
    made = {model: number_of(record.applied.get(model, "")) for model in bound}
    return sum(model in record.waiting or made[model] < number_of(core.newest(model)) for model in bound)
