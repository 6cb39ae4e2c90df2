"""A host's shares of the rate limits at one moment, for the API, the commands and the metrics. Read-only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.control.fleet.count_budget import CountBudget
from gateway.control.fleet.rates_state import MILLION, RateRecord
from gateway.control.fleet.rates_step import Held
from gateway.control.fleet.rates_usage import NEWCOMER


class Watched(Protocol):
    """What is read of a host's rates."""

    held: Held
    newcomer: bool
    problem: str
    errors: int
    records: Mapping[str, RateRecord]
    budget: CountBudget

    @property
    def moving(self) -> frozenset[str]: ...
    @property
    def incarnation(self) -> str: ...


@dataclass(frozen=True, slots=True)
class KeptShare:
    """Of a host out of contact, as a part of each limit that does not follow the demand: no one takes it."""

    name: str
    incarnation: str
    share: float


@dataclass(frozen=True, slots=True)
class RatesStatus:
    """`share`: of each limit, admitted here, unless the limit's shares follow the demand; `following`: how many do.

    `newcomer`: without ever having had contact, a tenth of each limit is admitted. `problem`: why the store does not
    answer; empty if it does. `kept`: of hosts that are out of contact, or were killed. `counted`, `overflows`: see
    CountBudget.
    """

    share: float
    following: int
    newcomer: bool
    problem: str
    kept: tuple[KeptShare, ...]
    store_errors: int
    counted: int
    overflows: int


def rates_status(rates: Watched) -> RatesStatus:
    """The shares as this host knows them now. Safe in a thread."""
    held, records, present = rates.held, rates.records, rates.moving | {rates.incarnation}
    kept = (
        KeptShare(record.name, incarnation, record.base_ppm / MILLION)
        for incarnation, record in records.items()
        if incarnation not in present
    )
    return RatesStatus(
        share=1 / NEWCOMER if rates.newcomer else held.base_ppm / MILLION,
        following=len(held.shares),
        newcomer=rates.newcomer,
        problem=rates.problem,
        kept=tuple(sorted(kept, key=lambda one: (one.name, one.incarnation))),
        store_errors=rates.errors,
        counted=rates.budget.counted,
        overflows=rates.budget.overflows,
    )
