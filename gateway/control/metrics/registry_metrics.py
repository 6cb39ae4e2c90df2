"""What is known of the model registry, for status and console, and its metrics."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class RegistryModel:
    """One model. `registered`: its name in the registry. `champion`, `challenger`: the versions of these aliases when
    they were last read, None without one. `note`: what differs from the release here, and why; `problem`: it will not
    go away by itself. `pending`: changes here that the registry does not have yet. `elsewhere`: see RegistryStatus.
    """

    registered: str
    champion: int | None = None
    challenger: int | None = None
    note: str = ""
    problem: bool = False
    pending: int = 0
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """The registry. `error`: why it does not answer; empty if it does. `answered_s`: when it last did, in seconds since
    1970, 0 if never. `errors`: failed exchanges since the start. `elsewhere`: why this host of a fleet does not ask it
    itself, such as that another one does, whose answers these are then; empty if it does. `followed`: whether any host
    asks it, as far as this one knows; at the one that is to, whether it does about every model.
    """

    url: str
    error: str = ""
    answered_s: float = 0.0
    errors: int = 0
    models: Mapping[str, RegistryModel] = field(default_factory=dict)
    elsewhere: str = ""
    followed: bool = True


def of_registry(registry: RegistryStatus | None) -> Iterable[Metric]:
    """The metric families; none without a registry. Of what one host of a fleet finds for all, only at that host."""
    if registry is None:
        return
    leads, follows = not registry.elsewhere, "1: this gateway asks the model registry, in a fleet for all its hosts."
    yield GaugeMetricFamily("gateway_registry_leads", follows, value=float(leads))
    known = (
        "1: this gateway asks the model registry about all models that follow it, or another one of its fleet is to,"
        " as far as is known here."
    )
    yield GaugeMetricFamily("gateway_registry_followed", known, value=float(registry.followed))
    yield CounterMetricFamily(
        "gateway_registry_errors", "Exchanges with the model registry that failed.", value=registry.errors
    )
    problem = GaugeMetricFamily(
        "gateway_registry_problem",
        "1: an alias of the registry names a version that is not taken; gateway status says why.",
        labels=["model"],
    )
    for model, one in registry.models.items():
        problem.add_metric([model], float(one.problem))
    yield problem
    if leads:
        yield from _of_leader(registry)


def _of_leader(registry: RegistryStatus) -> Iterable[Metric]:
    up = "1: the model registry answered when it was last asked."
    yield GaugeMetricFamily("gateway_registry_up", up, value=float(not registry.error))
    yield GaugeMetricFamily(
        "gateway_registry_last_success_timestamp_seconds",
        "Time of the registry's last answer; 0 if there was none.",
        value=registry.answered_s,
    )
    pending = GaugeMetricFamily(
        "gateway_registry_pending", "Changes of aliases and tags that the registry does not have yet.", labels=["model"]
    )
    for model, one in registry.models.items():
        pending.add_metric([model], one.pending)
    yield pending
