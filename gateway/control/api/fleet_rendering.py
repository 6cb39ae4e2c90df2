"""Converts the state of the fleet, and what is known of a stop in it, into JSON documents."""

from typing import Protocol

from gateway.control.api.documents import ConfirmationDocument
from gateway.control.api.fleet_documents import FleetDocument, FleetRoutingDocument, RatesDocument, SpreadDocument
from gateway.control.fleet.confirmation import Confirmation
from gateway.control.fleet.fleet_status import FleetStatus, Watched, fleet_status
from gateway.control.fleet.rates_status import Watched as WatchedRates
from gateway.control.fleet.rates_status import rates_status
from gateway.control.fleet.routing_spread import Spread
from gateway.control.fleet.routing_status import RoutingStatus, routing_status
from gateway.control.fleet.routing_status import Watched as WatchedRouting
from gateway.control.fleet.stop_call import StopOutcome


class WatchedKeys(Protocol):
    """What is read of the keys of prediction ids."""

    problem: str


class InFleet(Protocol):
    """The parts of the fleet, which are None without one."""

    @property
    def fleet(self) -> Watched | None: ...
    @property
    def rates(self) -> WatchedRates | None: ...
    @property
    def prediction_keys(self) -> WatchedKeys | None: ...
    @property
    def fleet_routing(self) -> WatchedRouting | None: ...


def fleet_document(control: InFleet) -> FleetDocument | None:
    """The document of the fleet, None without one; cheap to make."""
    if control.fleet is None:
        return None
    keys_problem = control.prediction_keys.problem if control.prediction_keys is not None else ""
    routing = control.fleet_routing
    return {
        **status_document(fleet_status(control.fleet), rates_document(control.rates)),
        "keys_problem": keys_problem or None,
        "routing": None if routing is None else routing_document(routing_status(routing)),
    }


def routing_document(status: RoutingStatus) -> FleetRoutingDocument:
    """The document of the routing file among those of the other hosts."""
    return {
        "drift": [{"host": host, "models": list(models)} for host, models in status.drift],
        "waiting": [{"model": model, "why": why} for model, why in sorted(status.waiting.items())],
        "problem": status.problem or None,
    }


def rates_document(rates: WatchedRates | None) -> RatesDocument | None:
    """The document of the rate limits, None without any."""
    if rates is None:
        return None
    status = rates_status(rates)
    return {
        "share": status.share,
        "following": status.following,
        "newcomer": status.newcomer,
        "problem": status.problem or None,
        "kept": [{"name": one.name, "incarnation": one.incarnation, "share": one.share} for one in status.kept],
        "store_errors": status.store_errors,
    }


def status_document(status: FleetStatus, rates: RatesDocument | None = None) -> FleetDocument:
    """The document of the fleet."""
    return {
        "name": status.name,
        "store": status.store,
        "host": status.host,
        "open": status.open,
        "why": status.why,
        "problem": status.problem or None,
        "lease_s": status.lease_s,
        "lease_left_s": status.lease_left_s,
        "when_lost": status.when_lost,
        "protocol": status.protocol,
        "revision": status.revision,
        "applied": status.applied,
        "members": [
            {
                "name": member.name,
                "incarnation": member.incarnation,
                "here": member.here,
                "up_to_date": member.up_to_date,
                "hold": member.hold,
                "silent_s": member.silent_s,
            }
            for member in status.members
        ],
        "unconfirmed": list(status.unconfirmed),
        "store_errors": status.store_errors,
        "leaders": [
            {"model": one.model, "leader": one.leader, "here": one.here, "why": one.why} for one in status.leaders
        ],
        "rates": rates,
        "keys_problem": None,
        "routing": None,
    }


def confirmation_document(confirmation: Confirmation, problem: str) -> ConfirmationDocument:
    """The document of what is known of a stop. `problem`: why the store does not answer, or empty."""
    return {
        "confirmed": confirmation.outcome is StopOutcome.CONFIRMED,
        "outcome": confirmation.outcome.value,
        "hosts": confirmation.hosts,
        "missing": list(confirmation.missing),
        "ms": confirmation.ms,
        "reason": _reason(confirmation, problem),
    }


def spread_document(spread: Spread) -> SpreadDocument:
    """The document of the hosts where an edit is in force."""
    return {
        "hosts": spread.hosts,
        "applied": spread.applied,
        "missing": [{"host": name, "why": why} for name, why in spread.missing],
        "problem": spread.problem or None,
    }


def _reason(confirmation: Confirmation, problem: str) -> str | None:
    """Why a stop is not confirmed, and which hosts may still answer from the candidate."""
    names = ", ".join(confirmation.missing)
    have, go = ("has", "goes") if len(confirmation.missing) == 1 else ("have", "go")
    match confirmation.outcome:
        case StopOutcome.CONFIRMED:
            return None
        case StopOutcome.RESUMED:
            return "it was resumed meanwhile"
        case StopOutcome.HERE_ONLY:
            return f"the fleet's store has not taken it: {problem}" if problem else "the fleet's store has not taken it"
        case StopOutcome.UNCONFIRMED:
            return f"{names} {have} not confirmed it, and {go} on without contact (fleet.when_lost: hold)"
        case StopOutcome.WAITING if names:
            return f"{names} {have} not confirmed it yet"
        case StopOutcome.WAITING:
            return "the fleet's store is new or slow, or a send is in progress here"
