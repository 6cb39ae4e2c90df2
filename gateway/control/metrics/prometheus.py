"""The gateway's Prometheus metrics, read from shared memory at each scrape (contract.md lists the names)."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway import __version__
from gateway.control.metrics.data_metrics import DataMetrics, of_data
from gateway.control.metrics.fleet_metrics import FleetMetrics, of_fleet
from gateway.control.metrics.process_metrics import ProcessStatus, of_processes
from gateway.control.metrics.registry_metrics import RegistryStatus, of_registry
from gateway.control.metrics.remote_metrics import RemoteStatus, of_remotes
from gateway.shm.latency import EXPORTED_NS, Histogram
from gateway.shm.tally import VARIANTS, Totals
from gateway.version_key import VersionKey

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
Labels = Sequence[str]


@dataclass(frozen=True, slots=True)
class GuardMetrics:
    """One comparison: log10 of (e-value times share of alpha), and log10 of the threshold for the sum of these."""

    name: str
    evidence_log10: float
    threshold_log10: float


@dataclass(frozen=True, slots=True)
class ReleaseMetrics:
    """One release. `weights`: by route, from 0 to 1. `stopped`: whether its candidate is stopped."""

    model: str
    weights: Mapping[str, float]
    stopped: bool
    stage: str
    guards: Sequence[GuardMetrics]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayMetrics:
    """A snapshot of everything to export. `versions`: model, version and counters.

    `shed`: requests refused by limits.inflight; `unrecorded`: because they could not be recorded; `shed_rate`: by their
    customer's rate limit. `late_sends`: answers of candidates. `decisions` by model and action; `workers` by state;
    `connections` by worker and state.
    """

    versions: Sequence[tuple[str, int, Totals]]
    releases: Sequence[ReleaseMetrics]
    inflight: int
    shed: int
    decisions: Mapping[tuple[str, str], int]
    workers: Mapping[str, int]
    worker_restarts: int
    heartbeat_age_s: float
    reload_success: bool
    reload_time_s: float
    revision: str
    unrecorded: int = 0
    shed_rate: int = 0
    late_sends: int = 0
    candidates_closed: bool = False
    connections: Mapping[tuple[int, str], int] = field(default_factory=dict)
    workers_killed: Mapping[str, int] = field(default_factory=dict)
    data: DataMetrics = field(default_factory=DataMetrics)
    processes: Sequence[ProcessStatus] = ()
    remotes: Sequence[RemoteStatus] = ()
    fleet: FleetMetrics | None = None
    registry: RegistryStatus | None = None
    labels: Mapping[VersionKey, Sequence[str]] = field(default_factory=dict)


class GatewayCollector:
    """A prometheus-client collector that calls `observe` at each scrape and exports the snapshot it returns."""

    def __init__(self, observe: Callable[[], GatewayMetrics]) -> None:
        self._observe = observe

    def collect(self) -> Iterable[Metric]:
        """Yield all metric families; called by prometheus-client at each scrape."""
        seen = self._observe()
        yield from _of_versions(seen.versions)
        yield from _of_releases(seen)
        yield from _of_the_gateway(seen)
        yield from of_processes(seen.processes)
        yield from of_remotes(seen.remotes)
        yield from of_fleet(seen.fleet)
        yield from of_registry(seen.registry)
        yield from of_data(seen.data, seen.versions, seen.labels)


def _of_versions(versions: Sequence[tuple[str, int, Totals]]) -> Iterable[Metric]:
    by_version = ["model", "version"]
    by_variant = [*by_version, "variant"]
    predictions = _counter("gateway_predictions", "Predictions, by outcome and version.", [*by_variant, "outcome"])
    duration = HistogramMetricFamily(
        "gateway_prediction_duration_seconds", "Time from routing to the answer.", labels=by_variant
    )
    queue = HistogramMetricFamily(
        "gateway_queue_duration_seconds", "Time that requests wait for their batch.", labels=by_version
    )
    batch = HistogramMetricFamily("gateway_batch_size", "Rows in a batch.", labels=by_version)
    rescues = _counter(
        "gateway_rescues",
        "Requests that stable answered because the candidate failed or was stopped.",
        ["model", "reason"],
    )
    unsplit = _counter(
        "gateway_unsplit",
        "Requests that went to stable without a random draw, because their deadline is too short to run both versions.",
        ["model", "reason"],
    )
    rescued: dict[tuple[str, str], int] = {}
    short: dict[str, int] = {}
    for model, version, totals in versions:
        labels = [model, str(version)]
        for variant in VARIANTS:
            outcomes = totals.outcomes(variant)
            if any(outcomes.values()):
                for outcome, count in outcomes.items():
                    predictions.add_metric([*labels, variant, outcome], count)
                _add(duration, [*labels, variant], totals.latency(variant))
        if totals.rows:  # the model has run
            _add(queue, labels, totals.queue)
            _add_batches(batch, labels, totals)
        short[model] = short.get(model, 0) + totals.unsplit
        for reason, count in totals.rescues.items():
            rescued[model, reason] = rescued.get((model, reason), 0) + count
    for key, count in sorted(rescued.items()):
        rescues.add_metric(list(key), count)
    for model, count in sorted(short.items()):
        unsplit.add_metric([model, "deadline"], count)
    return predictions, duration, queue, batch, rescues, unsplit


def _of_releases(seen: GatewayMetrics) -> Iterable[Metric]:
    weight = GaugeMetricFamily(
        "gateway_route_weight_ratio", "Share of a route's customers who get the candidate.", labels=["model", "route"]
    )
    stopped = GaugeMetricFamily("gateway_candidate_stopped", "1: no traffic goes to the candidate.", labels=["model"])
    stage = GaugeMetricFamily("gateway_release_stage", "1: the release is in this stage.", labels=["model", "stage"])
    evidence = GaugeMetricFamily(
        "gateway_guard_evidence_log10",
        "Evidence of harm of one guard: log10 of its e-value times its share of alpha.",
        labels=["model", "guard"],
    )
    line = GaugeMetricFamily(
        "gateway_guard_threshold_log10",
        "The threshold: the evidence, summed over guards, at which the candidate is stopped.",
        labels=["model"],
    )
    for release in seen.releases:
        for route, share in release.weights.items():
            weight.add_metric([release.model, route], share)
        stopped.add_metric([release.model], release.stopped)
        if release.stage:
            stage.add_metric([release.model, release.stage], 1)
        for guard in release.guards:
            evidence.add_metric([release.model, guard.name], guard.evidence_log10)
        for guard in release.guards[:1]:
            line.add_metric([release.model], guard.threshold_log10)
    decisions = _counter("gateway_decisions", "Changes to releases and decisions on them.", ["model", "action"])
    for key, count in sorted(seen.decisions.items()):
        decisions.add_metric(list(key), count)
    return weight, stopped, stage, evidence, line, decisions


def _of_the_gateway(seen: GatewayMetrics) -> Iterable[Metric]:
    yield _gauge("gateway_inflight_requests", "Requests in flight, in all workers.", seen.inflight)
    shed = _counter(
        "gateway_shed", "Requests refused with 503, or with 429 because of their customer's rate limit.", ["reason"]
    )
    shed.add_metric(["inflight"], seen.shed)
    shed.add_metric(["records"], seen.unrecorded)
    shed.add_metric(["rate"], seen.shed_rate)
    yield shed
    late = "Answers of candidates sent after control's heartbeat or the lease had ended: the host had been suspended."
    yield CounterMetricFamily("gateway_late_sends", late, value=seen.late_sends)
    workers = GaugeMetricFamily("gateway_workers", "Worker processes.", labels=["state"])
    for state, count in seen.workers.items():
        workers.add_metric([state], count)
    yield workers
    connections = GaugeMetricFamily(
        "gateway_connections",
        "Connections of each worker: open, and busy (with a response in the last second).",
        labels=["worker", "state"],
    )
    for (worker, state), count in seen.connections.items():
        connections.add_metric([str(worker), state], count)
    yield connections
    restarts = _counter("gateway_worker_restarts", "Workers that died and were replaced.", [])
    restarts.add_metric([], seen.worker_restarts)
    yield restarts
    killed = _counter(
        "gateway_workers_killed",
        "Workers ended because they did not respond, or loaded a version for too long.",
        ["reason"],
    )
    for reason, count in seen.workers_killed.items():
        killed.add_metric([reason], count)
    yield killed
    yield _gauge(
        "gateway_control_heartbeat_age_seconds",
        "Time since the control process's last heartbeat.",
        seen.heartbeat_age_s,
    )
    yield _gauge(
        "gateway_config_last_reload_success",
        "0: the last edit is refused because of a mistake in the files.",
        float(seen.reload_success),
    )
    yield _gauge(
        "gateway_config_last_reload_timestamp_seconds", "Time of the last successful reload.", seen.reload_time_s
    )
    closed = "1: started with a routing file that was refused; no candidate receives traffic until it is fixed."
    yield _gauge("gateway_config_candidates_closed", closed, float(seen.candidates_closed))
    config = GaugeMetricFamily("gateway_config_info", "The configuration in force.", labels=["revision"])
    config.add_metric([seen.revision], 1)
    yield config
    build = GaugeMetricFamily("gateway_build_info", "The version of the gateway.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build


def _add(family: HistogramMetricFamily, labels: Labels, histogram: Histogram) -> None:
    """Add a histogram. Each exported edge is one of the histogram's finer edges, so cumulative counts are exact."""
    cumulated = list(itertools.accumulate(histogram.counts))
    below = {edge: count for edge, count in zip(histogram.edges_ns, cumulated, strict=False)}
    pairs = [(f"{edge / 1e9:g}", float(below[edge])) for edge in EXPORTED_NS]
    family.add_metric(labels, [*pairs, ("+Inf", float(cumulated[-1]))], histogram.sum_ns / 1e9)


def _add_batches(family: HistogramMetricFamily, labels: Labels, totals: Totals) -> None:
    counts = [0] * (len(BATCH_SIZES) + 1)
    for size, (count, _) in totals.batches.items():
        counts[next((i for i, edge in enumerate(BATCH_SIZES) if size <= edge), len(BATCH_SIZES))] += count
    family.add_metric(labels, _cumulated([*map(str, BATCH_SIZES), "+Inf"], counts), totals.rows)


def _cumulated(edges: Sequence[str], counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    pairs = []
    for edge, count in zip(edges, counts, strict=True):
        total += count
        pairs.append((edge, float(total)))
    return pairs


def _counter(name: str, text: str, labels: Labels) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=list(labels))


def _gauge(name: str, text: str, value: float) -> Any:
    return GaugeMetricFamily(name, text, value=value)
