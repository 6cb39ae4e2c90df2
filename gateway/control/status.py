"""The state of the gateway at one moment, for the metrics, the API and the console. Read-only."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeVar

from gateway.control.control_plane import ControlPlane
from gateway.control.fleet.fleet_routing import FleetRouting
from gateway.control.fleet.fleet_status import FleetStatus, fleet_status
from gateway.control.fleet.rates import FleetRates
from gateway.control.fleet.rates_status import RatesStatus, rates_status
from gateway.control.fleet.routing_status import routing_status
from gateway.control.guards.evidence import alpha_of
from gateway.control.metrics.fleet_metrics import FleetMetrics, RateMetrics
from gateway.control.metrics.prometheus import GatewayMetrics, GuardMetrics, ReleaseMetrics
from gateway.control.pool.heartbeats import LOAD_REASON, SILENT_REASON
from gateway.control.pool.worker_handle import WorkerState
from gateway.control.record_status import data_metrics
from gateway.control.record_writer.outcome_sums import FeedbackSums
from gateway.control.release.audit import LN_10
from gateway.control.release.forecast import Progress
from gateway.control.release.release_status import ReleaseStatus, VersionStatus
from gateway.control.traffic.history import ReleaseTraffic
from gateway.messages import RunsOn
from gateway.routing.release import Variant, initial_weight
from gateway.shm.scoreboard import INFLIGHT, LATE_SENDS, SHED, SHED_RATE, UNRECORDED
from gateway.shm.tally import Totals

SLICE_S: Final = 0.0005  # of control's loop at a time: a thousand releases take a third of a second in all
PAUSE_S: Final = 0.001
T = TypeVar("T")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class CollectedStatus:
    """The data that only control's event loop may read: the releases, and the versions' counters (if asked for)."""

    releases: Sequence[ReleaseStatus]
    versions: Sequence[tuple[str, int, Totals]] = ()


async def collect_status(control: ControlPlane, *, versions: bool = False) -> CollectedStatus:
    """Collect the status of every release, in slices of SLICE_S so that the loop can do other work in between.
    `versions`: also the counters of every version, including those removed since.
    """
    give_way = control.command_priority.yield_to_commands
    releases = await _sliced(
        give_way, sorted(control.served), lambda name: release_status(control, name), control.served.__contains__
    )
    if not versions:
        return CollectedStatus(releases)
    slots = control.versions
    counted = await _sliced(
        give_way, [*slots.in_use()], lambda one: (one[0], slots.totals_of(one[0])), lambda one: one[0] in slots
    )
    totals = {key: total for key, total in counted if key in slots} | dict(
        slots.removed()
    )  # some were removed meanwhile
    return CollectedStatus(releases, [(*key, total) for key, total in sorted(totals.items(), key=itemgetter(0))])


async def collect_traffic(control: ControlPlane) -> list[ReleaseTraffic]:
    """The traffic of every release over time, collected in slices as the status is."""
    served = control.served
    return await _sliced(
        control.command_priority.yield_to_commands,
        sorted(served),
        lambda name: control.traffic.traffic(name, control.served[name]),
        lambda name: name in control.served,
    )


async def _sliced(
    give_way: Callable[[], Awaitable[None]],
    items: Iterable[T],
    make: Callable[[T], Made],
    there: Callable[[T], bool],
) -> list[Made]:
    """`make(item)` for each item that is still `there` when it is reached."""
    made: list[Made] = []
    began_s = time.perf_counter()
    for item in items:
        if there(item):
            made.append(make(item))
        if (spent_s := time.perf_counter() - began_s) > SLICE_S:
            await asyncio.sleep(max(PAUSE_S, 2 * spent_s))
            await give_way()
            began_s = time.perf_counter()
    return made


def release_status(control: ControlPlane, name: str) -> ReleaseStatus:
    """The status of one release now. Raises NotFound."""
    release = control.settings_of(name)
    routes, live = release.split.routes if release.split else (), control.release_manager.weights_ppm(name)
    stop, stopped, epoch = None, False, 0
    if release.candidate is not None:
        slot = control.releases.of(name, release.candidate)
        stop = control.decision_log.stopped(name, release.candidate)
        stopped, epoch = control.board.stopped(slot), control.board.epoch(slot)
    ramp_ppm = tuple(control.release_manager.ramp_weights_ppm(name))
    progress = control.release_manager.progress(name)
    step_ppm = ramp_ppm[progress.step] if progress and ramp_ppm else 0
    return ReleaseStatus(
        model=name,
        stable=release.stable,
        candidate=release.candidate,
        weights_ppm={route.name: live[route.name] if route.name in live else initial_weight(route) for route in routes},
        configured_ppm={route.name: route.weight if isinstance(route.weight, int) else step_ppm for route in routes},
        stopped=stopped,
        stop=stop,
        epoch=epoch,
        versions=tuple(_version_statuses(control, name, release.stable, release.candidate)),
        progress=progress,
        ramp_ppm=ramp_ppm,
        latency_compared=release.latency_compared,
        effects=control.release_manager.effects(name),
        undo=_undo(control, name),
        registry=control.registry.models.get(name) if control.registry is not None else None,
    )


def _undo(control: ControlPlane, name: str) -> int | None:
    """The version to which an undo of the last promotion would lead. Whether its files are still there is not looked
    at.
    """
    one = control.acceptance.memory.get(name)
    return one.undo.stable if one is not None and one.undo is not None and not one.undo.edited else None


def _version_statuses(control: ControlPlane, name: str, stable: int, candidate: int | None) -> Iterator[VersionStatus]:
    for number, variant in ((stable, Variant.STABLE), (candidate, Variant.CANDIDATE)):
        if number is not None:
            totals = control.scoreboard.totals(control.versions.of(name, number))
            credit = control.records.feedback.by_version.get((name, number, variant))
            sums = credit.sums if credit is not None else FeedbackSums()
            runs_on = control.runs_on(name, number) or RunsOn(())
            process = control.processes.status_of(name, number)
            yield VersionStatus(number, variant, totals, sums, runs_on.providers, runs_on.warning, process)


def gateway_metrics(control: ControlPlane) -> GatewayMetrics:
    """The metrics other than those of releases and versions. Safe in a thread: it reads only those attributes of
    control that are replaced as a whole.
    """
    status = control.routing_file.status
    return GatewayMetrics(
        versions=(),
        releases=(),
        inflight=control.scoreboard.total(INFLIGHT),
        shed=control.scoreboard.total(SHED),
        processes=control.processes.statuses(),
        remotes=control.remote_versions.status,
        fleet=None
        if control.fleet is None
        else fleet_metrics(fleet_status(control.fleet), control.rates, control.fleet_routing),
        registry=control.registry,
        shed_rate=control.scoreboard.total(SHED_RATE),
        late_sends=control.scoreboard.total(LATE_SENDS),
        decisions=dict(control.decision_log.counts),
        workers=_workers(control),
        workers_killed={reason: control.pool.killed[reason] for reason in (SILENT_REASON, LOAD_REASON)},
        worker_restarts=control.pool.restarts,
        heartbeat_age_s=(control.board.clock.now_ns() - control.board.heartbeat_ns) / 1e9,
        reload_success=not status.error,
        reload_time_s=status.loaded_s,
        revision=status.revision,
        candidates_closed=status.candidates_closed,
        unrecorded=control.scoreboard.total(UNRECORDED),
        data=data_metrics(control),
        connections=control.housekeeping.connections(),
    )


def fleet_metrics(
    fleet: FleetStatus, rates: FleetRates | None = None, routing: FleetRouting | None = None
) -> FleetMetrics:
    """The metrics of the fleet."""
    return FleetMetrics(
        open=fleet.open,
        members=len(fleet.members),
        lease_left_s=fleet.lease_left_s,
        store_errors=fleet.store_errors,
        unconfirmed=len(fleet.unconfirmed),
        applied=fleet.applied,
        rates=None if rates is None else rate_metrics(rates_status(rates)),
        leads={one.model: one.here for one in fleet.leaders},
        led={one.model: one.leader is not None for one in fleet.leaders},
        drifting=0 if routing is None else len(routing_status(routing).drifting),
    )


def rate_metrics(rates: RatesStatus) -> RateMetrics:
    """The metrics of rate limits over the fleet."""
    kept = sum(one.share for one in rates.kept)
    return RateMetrics(
        rates.share, kept, rates.following, rates.newcomer, rates.store_errors, rates.counted, rates.overflows
    )


def _workers(control: ControlPlane) -> dict[str, int]:
    """The number of workers in each state. Workers that serve but show no heartbeat count as silent, not as ready."""
    counts = {str(state): count for state, count in control.pool.states().items()}
    silent = control.watchdog.heartbeats.silent()
    return {**counts, str(WorkerState.READY): counts[WorkerState.READY] - silent, SILENT_REASON: silent}


def release_metrics(release: ReleaseStatus) -> ReleaseMetrics:
    """The metrics of one release."""
    return ReleaseMetrics(
        release.model,
        {route: (0 if release.stopped else ppm) / 1e6 for route, ppm in release.weights_ppm.items()},
        release.stopped,
        str(release.progress.stage) if release.progress else "",
        _guards(release.progress) if release.progress else (),
    )


def _guards(progress: Progress) -> tuple[GuardMetrics, ...]:
    assessment = progress.assessment
    line = -math.log10(alpha_of(assessment.alpha, assessment.restart))
    return tuple(
        GuardMetrics(found.name, found.log_e / LN_10 + math.log10(found.share), line)
        for found in assessment.results
        if found.share
    )
