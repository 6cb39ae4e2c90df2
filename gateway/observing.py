"""What is known of the gateway at one moment, for the metrics, the API and people. Nothing is changed by looking."""

import math
import time
from collections.abc import Iterator

from gateway.control import Control
from gateway.metrics.prometheus import GuardMetrics, Observed, ReleaseMetrics
from gateway.orders import RunsOn
from gateway.recorded import Labels, recorded
from gateway.records.ledger import Credit
from gateway.release.account import LN_10
from gateway.release.evidence import alpha_of
from gateway.release.forecast import Progress
from gateway.release.overview import Counted, Overview
from gateway.routing.release import Variant
from gateway.shm.scoreboard import INFLIGHT, SHED, SHED_RATE, UNRECORDED
from gateway.shm.switchboard import HEARTBEAT


def overview(control: Control) -> list[Overview]:
    """Every release as it is now."""
    return [overview_of(control, name) for name in sorted(control.served)]


def overview_of(control: Control, name: str) -> Overview:
    """One release as it is now; raises NotFound."""
    release = control.release(name)
    stop, stopped, epoch = None, False, 0
    if release.candidate is not None:
        slot = control.releases.of(name, release.candidate)
        stop = control.stops.stopped(name, release.candidate)
        stopped, epoch = control.board.stopped(slot), control.board.epoch(slot)
    ramp_ppm = tuple(control.steering.ramp_weights_ppm(name))
    progress = control.steering.progress(name)
    step_ppm = ramp_ppm[progress.step] if progress and ramp_ppm else 0
    return Overview(
        name,
        release.stable,
        release.candidate,
        {route.name: ppm for route, ppm in zip(release.routes, release.weights_ppm, strict=True)},
        {route.name: route.weight if isinstance(route.weight, int) else step_ppm for route in release.routes},
        stopped,
        stop,
        epoch,
        tuple(_counted(control, name, release.stable, release.candidate)),
        progress,
        ramp_ppm,
        control.served[name].compares_latency,
    )


def _counted(control: Control, name: str, stable: int, candidate: int | None) -> Iterator[Counted]:
    for number, variant in ((stable, Variant.STABLE), (candidate, Variant.CANDIDATE)):
        if number is not None:
            totals = control.scoreboard.totals(control.versions.of(name, number))
            credit = control.records.ledger.credits.get((name, number, variant), Credit())
            runs_on = control.runs_on(name, number) or RunsOn(())
            yield Counted(number, variant, totals, credit, runs_on.providers, runs_on.warning)


def observe(control: Control, labels: Labels) -> Observed:
    """Everything that the metrics tell."""
    status = control.configuration.status
    versions = [(name, number, totals) for (name, number), totals in control.versions.totals()]
    return Observed(
        versions=versions,
        releases=[_release(release) for release in overview(control) if release.candidate is not None],
        inflight=control.scoreboard.total(INFLIGHT),
        shed=control.scoreboard.total(SHED),
        shed_rate=control.scoreboard.total(SHED_RATE),
        decisions=dict(control.stops.counts),
        workers={str(state): count for state, count in control.fleet.states().items()},
        worker_restarts=control.fleet.restarts,
        heartbeat_age_s=(time.monotonic_ns() - control.board.words[HEARTBEAT]) / 1e9,
        reload_success=not status.error,
        reload_time_s=status.loaded_s,
        revision=status.revision,
        candidates_closed=status.closed,
        unrecorded=control.scoreboard.total(UNRECORDED),
        data=recorded(control),
        labels={(name, number): labels.of(name, number) for name, number, _ in versions},
        connections=control.upkeep.connections(),
    )


def _release(release: Overview) -> ReleaseMetrics:
    return ReleaseMetrics(
        release.model,
        {route: (0 if release.stopped else ppm) / 1e6 for route, ppm in release.weights_ppm.items()},
        release.stopped,
        str(release.progress.stage) if release.progress else "",
        _guards(release.progress) if release.progress else (),
    )


def _guards(progress: Progress) -> tuple[GuardMetrics, ...]:
    judged = progress.judgement
    line = -math.log10(alpha_of(judged.alpha, judged.restart))
    return tuple(
        GuardMetrics(found.name, found.log_e / LN_10 + math.log10(found.share), line)
        for found in judged.found
        if found.share
    )
