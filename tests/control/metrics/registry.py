"""A Prometheus registry over a gateway's metrics, all empty except those that a test sets."""

from typing import Any

from prometheus_client import CollectorRegistry

from gateway.control.metrics.prometheus import GatewayCollector, GatewayMetrics
from gateway.shm.tally import Tally


def registry(tally: Tally | None = None, **metrics: Any) -> CollectorRegistry:
    """`tally`: the counters of version 1 of digits. `metrics`: fields of GatewayMetrics."""
    empty: dict[str, Any] = {
        "releases": [],
        "inflight": 0,
        "shed": 0,
        "decisions": {},
        "workers": {},
        "worker_restarts": 0,
        "heartbeat_age_s": 0.0,
        "reload_success": True,
        "reload_time_s": 0.0,
        "revision": "r",
    }
    versions = [("digits", 1, tally.read())] if tally else []
    observed = GatewayMetrics(**{**empty, "versions": versions, **metrics})
    found = CollectorRegistry()
    found.register(GatewayCollector(lambda: observed))
    return found
