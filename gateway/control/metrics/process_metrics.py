"""Metrics of the processes that run single versions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process. `role`: stable, candidate or baseline. `state`: starting, ready, failed or dead. `memory_bytes`:
    what it takes for itself, 0 if that is unknown.
    """

    model: str
    version: int
    role: str
    state: str
    starts: int
    memory_bytes: int


def of_processes(processes: Sequence[ProcessStatus]) -> Iterable[Metric]:
    """The metric families; without any process they are empty."""
    labels = ["model", "version", "role"]
    up = GaugeMetricFamily(
        "gateway_version_process_up", "1: the version's own process has loaded it and answers.", labels=labels
    )
    starts = CounterMetricFamily("gateway_version_process_starts", "Starts of the version's process.", labels=labels)
    memory = GaugeMetricFamily(
        "gateway_version_process_memory_bytes", "Memory that the version's process takes for itself.", labels=labels
    )
    for one in processes:
        values = [one.model, str(one.version), one.role]
        up.add_metric(values, one.state == "ready")
        starts.add_metric(values, one.starts)
        memory.add_metric(values, one.memory_bytes)
    return up, starts, memory
