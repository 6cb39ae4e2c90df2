"""How this host's routing file compares with those of the other hosts, for the API, the commands and the metrics."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from gateway.control.fleet.routing_state import RoutingRecord
from gateway.control.fleet.routing_step import drifts


class Exchange(Protocol):
    """What is read of a host's exchange of edits."""

    @property
    def me(self) -> str: ...
    @property
    def present(self) -> Collection[str]: ...
    @property
    def records(self) -> Mapping[str, RoutingRecord]: ...


class Watched(Protocol):
    """What is read of a host's routing edits."""

    problem: str

    @property
    def exchange(self) -> Exchange: ...


@dataclass(frozen=True, slots=True)
class RoutingStatus:
    """`drift`: by host in contact, the models whose entry is another one there than here. `waiting`: by model, why
    edits of the fleet are not made here. `problem`: why edits are not exchanged, empty if they are.
    """

    drift: tuple[tuple[str, tuple[str, ...]], ...]
    waiting: Mapping[str, str]
    problem: str

    @property
    def drifting(self) -> frozenset[str]:
        """The models whose entry is not the same on all hosts in contact."""
        return frozenset(model for _, models in self.drift for model in models)


def routing_status(routing: Watched) -> RoutingStatus:
    """As this host knows it now. Safe in a thread."""
    exchange, records = routing.exchange, routing.exchange.records
    found = groupby(drifts(exchange.me, records, exchange.present), key=lambda drift: drift[0])
    drift = tuple((host, tuple(model for _, model in drifts)) for host, drifts in found)
    waiting = records[exchange.me].waiting if exchange.me in records else {}
    return RoutingStatus(drift, waiting, routing.problem)
