"""How many times as often failures and their like come for the candidate, over the whole release and by route."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.control.guards.epoch_counts import EpochCounts
from gateway.control.guards.evidence import TOLERATED_RATIO
from gateway.control.guards.failure_counts import FailureCounts, rows
from gateway.evidence.effect import Effect
from gateway.evidence.intervals import ALPHA
from gateway.evidence.ratio import ratio_effect

COUNTED_AS: Final[Mapping[str, str]] = {
    "failures": "failures",
    "slow_requests": "slow requests",
    "complaints": "complaints",
    "mirror_disagreement": "disagreements",
}


def failure_effects(process: FailureCounts, metric: str) -> Iterator[Effect]:
    """Yield the effect on how often `metric` comes, then that of each route that is shown; nothing before it comes.

    Alpha is divided by all routes of the release (Bonferroni's correction), as it is for means.
    """
    if process.of_epoch.counts:
        yield _effect(process.of_epoch, metric, None, ALPHA)
        for route, one in process.by_route.shown():
            if one.counts:
                yield _effect(one, metric, route, ALPHA / len(process.by_route.routes))


def _effect(of: EpochCounts, metric: str, route: str | None, alpha: float) -> Effect:
    stable, candidate = of.repeated
    return ratio_effect(
        tuple(rows(of.counts)),
        metric,
        COUNTED_AS[metric],
        TOLERATED_RATIO - 1,
        (stable, candidate),
        alpha=alpha,
        route=route,
    )
