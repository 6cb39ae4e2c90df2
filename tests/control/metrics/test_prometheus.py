"""Exported latency histograms, from known counters."""

from prometheus_client import CollectorRegistry

from gateway.control.metrics.prometheus import GatewayCollector, GatewayMetrics
from gateway.shm.tally import Tally


def test_exported_buckets_are_exact_sums_of_the_fine_ones() -> None:
    tally = Tally()
    for ns in (19_000, 100_000, 100_001, 149_000, 150_001, 10**10, 10**11):
        tally.success("stable", ns, 0)
    observed = GatewayMetrics(
        versions=[("digits", 1, tally.read())],
        releases=[],
        inflight=0,
        shed=0,
        decisions={},
        workers={},
        worker_restarts=0,
        heartbeat_age_s=0.0,
        reload_success=True,
        reload_time_s=0.0,
        revision="r",
    )
    registry = CollectorRegistry()
    registry.register(GatewayCollector(lambda: observed))

    def below(edge: str) -> float | None:
        labels = {"model": "digits", "version": "1", "variant": "stable", "le": edge}
        return registry.get_sample_value("gateway_prediction_duration_seconds_bucket", labels)

    assert [below(edge) for edge in ("0.0001", "0.00015", "0.0002", "10", "+Inf")] == [2, 4, 5, 6, 7]
    assert below("2e-05") is None
