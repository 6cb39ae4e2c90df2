"""Makes this host's part in the fleet's rate limits from the settings, and what removes hosts that have ended."""

import asyncio
from pathlib import Path

from gateway.auth.fleet_rate_limit import BY_SHARE
from gateway.control.fleet.membership import CALLS, Membership
from gateway.control.fleet.rate_counts import RateCounts
from gateway.control.fleet.rates import SUFFIX, FleetRates
from gateway.control.fleet.rates_memory import RatesMemory
from gateway.control.fleet.rates_usage import RateUsage
from gateway.control.fleet.removal import HostRemoval
from gateway.control.fleet.stores import open_store
from gateway.control.pool.worker_handle import WorkerHandle
from gateway.control.pool.worker_pool import WorkerPool
from gateway.control.release.decisions import DecisionLog
from gateway.messages import CountReply, CountRequest
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
    store = open_store(fleet.url(), fleet.name + SUFFIX, fleet.lease / CALLS)
    return FleetRates(
        store,
        membership.timing,
        lambda: membership.host,
        RateUsage(settings.limits.rate, counters, shares),
        RatesMemory(Path(settings.state), fleet.name, decision_log.replace_file),
        membership.now_ns,
        counts=RateCounts(store.document),
    )


def count_for_workers(rates: FleetRates, pool: WorkerPool) -> None:
    """Count requests of small limits in the fleet's store as the workers ask for it."""
    counting: set[asyncio.Task[None]] = set()

    async def answer(handle: WorkerHandle, request: CountRequest) -> None:
        wait_ns = BY_SHARE
        try:
            wait_ns = await rates.count(request.places)
        finally:
            handle.send(CountReply(request.number, wait_ns))  # else the worker would take control for one that hangs

    def on_count(handle: WorkerHandle, request: CountRequest) -> None:
        task = asyncio.get_running_loop().create_task(answer(handle, request))
        counting.add(task)
        task.add_done_callback(counting.discard)

    pool.on_count = on_count


def open_removal(
    settings: GatewaySettings, membership: Membership | None, rates: FleetRates | None
) -> HostRemoval | None:
    """None without a fleet."""
    fleet = settings.fleet
    if fleet is None or membership is None:
        return None
    return HostRemoval(membership, rates, lambda: open_store(fleet.url(), fleet.name, fleet.lease / CALLS))
