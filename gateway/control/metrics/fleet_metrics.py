"""Metrics of the fleet, exported by gateways that are in one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class RateMetrics:
    """Rate limits over the fleet. `share`: of each limit, admitted here; `kept`: by hosts out of contact, both from 0
    to 1. `following`: how many limits' shares follow the demand. Since the start: `store_errors`; `counted`: requests
    of small limits that the store counted, and `overflows`: how often there were more than this host has counted.
    """

    share: float
    kept: float
    following: int
    newcomer: bool
    store_errors: int
    counted: int = 0
    overflows: int = 0


@dataclass(frozen=True, slots=True)
class FleetMetrics:
    """The fleet as this host sees it. `open`: candidates may get traffic here. `lease_left_s`: 0 if closed or without
    contact. `store_errors` since the start. `unconfirmed`: how many releases have a stop that may not hold everywhere.
    `applied`: the revision of the fleet's stops and resumes that is in force here. `leads`: by model, whether this host
    runs the controller of its release, and `led`, whether any member does. `drifting`: how many models have another
    entry in the routing file of a host in contact.
    """

    open: bool
    members: int
    lease_left_s: float
    store_errors: int
    unconfirmed: int
    applied: int
    leads: Mapping[str, bool]
    led: Mapping[str, bool]
    rates: RateMetrics | None = None
    drifting: int = 0


def of_fleet(fleet: FleetMetrics | None) -> Iterable[Metric]:
    """The metric families; none without a fleet."""
    if fleet is None:
        return
    yield _gauge("gateway_fleet_open", "1: candidates may get traffic on this host.", fleet.open)
    yield _gauge("gateway_fleet_members", "Hosts in the fleet, as this one sees it.", fleet.members)
    yield _gauge(
        "gateway_fleet_lease_remaining_seconds",
        "Time until candidates close here without further contact; 0 if closed or without contact.",
        fleet.lease_left_s,
    )
    yield _gauge(
        "gateway_fleet_stops_unconfirmed", "Releases with a stop that may not hold on all hosts.", fleet.unconfirmed
    )
    yield _gauge(
        "gateway_fleet_revision_applied",
        "Revision of the fleet's stops and resumes that is in force here.",
        fleet.applied,
    )
    leader = GaugeMetricFamily(
        "gateway_fleet_leader", "1: this host runs the ramp and guards of the model's release.", labels=["model"]
    )
    for model, leads in fleet.leads.items():
        leader.add_metric([model], float(leads))
    yield leader
    led = GaugeMetricFamily(
        "gateway_fleet_led", "1: some host runs the ramp and guards of the model's release.", labels=["model"]
    )
    for model, is_led in fleet.led.items():
        led.add_metric([model], float(is_led))
    yield led
    yield CounterMetricFamily(
        "gateway_fleet_store_errors", "Exchanges with the fleet's store that failed.", value=fleet.store_errors
    )
    yield _gauge(
        "gateway_fleet_routing_drift",
        "Models whose entry in the routing file is another one on some host in contact.",
        fleet.drifting,
    )
    if fleet.rates is not None:
        yield from _of_rates(fleet.rates)


def _of_rates(rates: RateMetrics) -> Iterable[Metric]:
    yield _gauge(
        "gateway_fleet_rate_share_ratio",
        "Part of each rate limit that is admitted here, but for limits whose shares follow the demand.",
        rates.share,
    )
    yield _gauge(
        "gateway_fleet_rate_kept_ratio",
        "Part of each rate limit that hosts out of contact keep.",
        rates.kept,
    )
    yield _gauge("gateway_fleet_rate_limits_following", "Rate limits whose shares follow the demand.", rates.following)
    yield _gauge(
        "gateway_fleet_rate_newcomer", "1: a tenth of each limit is admitted, without contact so far.", rates.newcomer
    )
    yield CounterMetricFamily(
        "gateway_fleet_rate_store_errors", "Exchanges of rates with the store that failed.", value=rates.store_errors
    )
    yield CounterMetricFamily(
        "gateway_fleet_rate_counted", "Requests of small rate limits counted in the store.", value=rates.counted
    )
    yield CounterMetricFamily(
        "gateway_fleet_rate_count_overflows",
        "How often a quarter of a second had more such requests than a host has counted: its share held for its rest.",
        value=rates.overflows,
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
