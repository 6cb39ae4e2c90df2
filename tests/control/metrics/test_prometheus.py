"""Exported latency histograms, from known counters."""

from gateway.shm.tally import Tally
from tests.control.metrics.registry import registry


def test_exported_buckets_are_exact_sums_of_the_fine_ones() -> None:
    tally = Tally()
    for ns in (19_000, 100_000, 100_001, 149_000, 150_001, 10**10, 10**11):
        tally.success("stable", ns, 0)
    found = registry(tally)

    def below(edge: str) -> float | None:
        labels = {"model": "digits", "version": "1", "variant": "stable", "le": edge}
        return found.get_sample_value("gateway_prediction_duration_seconds_bucket", labels)

    assert [below(edge) for edge in ("0.0001", "0.00015", "0.0002", "10", "+Inf")] == [2, 4, 5, 6, 7]
    assert below("2e-05") is None
