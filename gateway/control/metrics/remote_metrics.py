"""Metrics of the servers that run versions elsewhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """One address of a version's server. `up`: the model was ready there when it was last asked."""

    model: str
    version: int
    address: str
    up: bool


def of_remotes(remotes: Sequence[RemoteStatus]) -> Iterable[Metric]:
    """The metric family; empty without any."""
    labels = ["model", "version", "address"]
    up = GaugeMetricFamily("gateway_remote_up", "1: the version's server has the model ready.", labels=labels)
    for one in remotes:
        up.add_metric([one.model, str(one.version), one.address], one.up)
    yield up
