"""Exported metrics of the fleet."""

from dataclasses import replace

from gateway.control.metrics.fleet_metrics import FleetMetrics, RateMetrics
from tests.control.metrics.registry import registry

FLEET = FleetMetrics(
    open=True,
    members=3,
    lease_left_s=2.5,
    store_errors=7,
    unconfirmed=1,
    applied=12,
    leads={"digits": True, "tickets": False},
    led={"digits": True, "tickets": True, "free": False},
)


def test_the_fleet_is_exported() -> None:
    found = registry(fleet=FLEET)
    values = {
        name: found.get_sample_value(f"gateway_fleet_{name}")
        for name in (
            "open",
            "members",
            "lease_remaining_seconds",
            "store_errors_total",
            "stops_unconfirmed",
            "revision_applied",
        )
    }
    assert list(values.values()) == [1, 3, 2.5, 7, 1, 12]
    leads = [found.get_sample_value("gateway_fleet_leader", {"model": model}) for model in ("digits", "tickets")]
    assert leads == [1, 0]
    led = [found.get_sample_value("gateway_fleet_led", {"model": model}) for model in ("digits", "tickets", "free")]
    assert led == [1, 1, 0]


def test_rates_of_the_fleet_are_exported_where_a_rate_is_limited() -> None:
    rates = RateMetrics(share=0.25, kept=0.5, following=4, newcomer=False, store_errors=3, counted=9, overflows=2)
    found = registry(fleet=replace(FLEET, rates=rates))
    names = "share_ratio", "kept_ratio", "limits_following", "newcomer", "store_errors_total"
    names = *names, "counted_total", "count_overflows_total"
    values = [found.get_sample_value(f"gateway_fleet_rate_{name}") for name in names]
    assert values == [0.25, 0.5, 4, 0, 3, 9, 2]
    assert registry(fleet=FLEET).get_sample_value("gateway_fleet_rate_share_ratio") is None


def test_gateway_without_a_fleet_exports_nothing_of_one() -> None:
    assert [family.name for family in registry().collect() if "fleet" in family.name] == []
