"""Candidate minus stable over outcomes in the order of arrival, with an interval that holds whenever one looks."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gateway.evidence.differences import OutcomeShares, units
from gateway.evidence.effect import Effect, effect_of
from gateway.evidence.intervals import EffectSums
from gateway.offline.analysis.metrics import Metric
from gateway.offline.unit_means import Floats

Range = tuple[float, float]
UNIT_RANGE: Final = (0.0, 1.0)
_FROM_0_TO_1: Final = ("wrong", "ndcg", "reciprocal_rank")
_HARM: Final = {1: "increase", -1: "decrease", 0: ""}


def effect(metric: Metric, values: Floats, candidate: Any, chances: Floats, ranges: Mapping[str, Range]) -> Effect:
    """What is known of the difference of the means of `values`. All arrays are [outcomes].

    `chances`: the candidate's at decision time; its share of the outcomes that come takes their place. `ranges`: lowest
    and highest value by outcome; of others the interval is asymptotic.
    """
    shares = OutcomeShares()
    came = [
        shares.next((chance,), chance, flag) for chance, flag in zip(chances.tolist(), candidate.tolist(), strict=True)
    ]
    bounds = UNIT_RANGE if metric.share or metric.outcome.endswith(_FROM_0_TO_1) else ranges.get(metric.outcome)
    sums = EffectSums(None if bounds is None else (bounds[0], bounds[1] - bounds[0]))
    sums.add(units(values.tolist(), candidate.tolist(), np.clip(came, 1e-6, 1 - 1e-6).tolist()))
    return effect_of(sums, metric.outcome, None, harm=_HARM[metric.harm])
