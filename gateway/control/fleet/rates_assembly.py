"""Makes this host's part in the fleet's rate limits from the settings, and what removes hosts that have ended."""

from pathlib import Path

from gateway.control.fleet.membership import CALLS, Membership
from gateway.control.fleet.rates import SUFFIX, FleetRates
from gateway.control.fleet.rates_memory import RatesMemory
from gateway.control.fleet.rates_usage import RateUsage
from gateway.control.fleet.removal import HostRemoval
from gateway.control.fleet.stores import open_store
from gateway.control.release.decisions import DecisionLog
from gateway.settings.gateway import GatewaySettings
from gateway.shm.rate_counters import RateCounters
from gateway.shm.rate_shares import RateShares


def open_rates(
    settings: GatewaySettings,
    membership: Membership | None,
    counters: RateCounters | None,
    shares: RateShares | None,
    decision_log: DecisionLog,
) -> FleetRates | None:
    """None without a fleet, or where no one's rate is limited. Connects to nothing yet."""
    fleet = settings.fleet
    if fleet is None or membership is None or counters is None or shares is None:
        return None
    return FleetRates(
        open_store(fleet.url(), fleet.name + SUFFIX, fleet.lease / CALLS),
        membership.timing,
        lambda: membership.host,
        RateUsage(settings.limits.rate, counters, shares),
        RatesMemory(Path(settings.state), fleet.name, decision_log.replace_file),
        membership.now_ns,
    )


def open_removal(
    settings: GatewaySettings, membership: Membership | None, rates: FleetRates | None
) -> HostRemoval | None:
    """None without a fleet."""
    fleet = settings.fleet
    if fleet is None or membership is None:
        return None
    return HostRemoval(membership, rates, lambda: open_store(fleet.url(), fleet.name, fleet.lease / CALLS))
