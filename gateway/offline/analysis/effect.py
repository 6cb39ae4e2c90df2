"""Candidate minus stable over outcomes in the order of arrival, with an interval that holds whenever one looks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from gateway.evidence.differences import OutcomeShares, Units
from gateway.evidence.effect import Effect, effect_of
from gateway.evidence.intervals import EffectSums
from gateway.offline.analysis.metrics import Metric

Range = tuple[float, float]
UNIT_RANGE: Final = (0.0, 1.0)
_FROM_0_TO_1: Final = ("wrong", "ndcg", "reciprocal_rank")
_HARM: Final = {1: "increase", -1: "decrease", 0: ""}


def effect(metric: Metric, first: Units, thinned: Units, ranges: Mapping[str, Range]) -> Effect:
    """What is known of the difference of the outcomes' means.

    `first`, `thinned`: in both ways of counting (see `Outcomes`), with the candidate's chances at decision time; its
    share of the outcomes that come takes their place. `ranges`: lowest and highest value by outcome; of others the
    interval is asymptotic.
    """
    bounds = UNIT_RANGE if metric.share or metric.outcome.endswith(_FROM_0_TO_1) else ranges.get(metric.outcome)
    scale = None if bounds is None else (bounds[0], bounds[1] - bounds[0])
    sums, left = (_sums(drawn, scale) for drawn in (first, thinned))
    return effect_of(sums, metric.outcome, None, thinned=left, harm=_HARM[metric.harm])


def _sums(drawn: Units, scale: tuple[float, float] | None) -> EffectSums:
    shares, sums = OutcomeShares(), EffectSums(scale)
    came = [
        shares.next((route, chance), chance, flag)
        for route, chance, flag in zip(
            drawn.route_names(), drawn.chances.tolist(), drawn.candidate.tolist(), strict=True
        )
    ]
    sums.add(replace(drawn, chances=np.clip(came, 1e-6, 1 - 1e-6)))
    return sums
