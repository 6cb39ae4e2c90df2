"""Candidate minus stable, with an interval that holds whenever one looks."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateway.offline.unit_means import Floats

ALPHA: Final = 0.05
PRIOR_UNITS: Final = 50.0  # the weight counts as much as so many outcomes in the estimate of the share that comes
BEST_AT: Final = 1_000  # outcomes at which the interval is narrowest, compared with others of its kind


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the ends of its interval; infinite ends where too little is known."""

    value: float
    low: float
    high: float


def interval(shares: Floats, candidate: Any, values: Floats, alpha: float = ALPHA) -> Interval:
    """The mean difference of the outcomes `values`, in the order of arrival, all arrays [outcomes].

    `shares`: the probability of the candidate at decision time. An asymptotic confidence sequence (Waudby-Smith et al.,
    arXiv 2103.06476) on the inverse-propensity differences from the mean of the past; the propensity is the candidate's
    share of the outcomes that come, not of the requests.
    """
    count = len(values)
    if count < 2:
        return Interval(math.nan, -math.inf, math.inf)
    scale = float(np.std(values)) or 1.0
    past = np.concatenate([[values[0]], np.cumsum(values)[:-1] / np.arange(1, count)])
    share = _shares_that_come(shares, candidate)
    differences = np.where(candidate, (values - past) / share, -(values - past) / (1 - share))
    mean = float(differences.mean())
    deviation = math.hypot(float(differences.std()), scale * 1e-3)
    rho = math.sqrt((-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / BEST_AT)
    grown = count * rho**2 + 1
    width = deviation * math.sqrt(2 * grown / (count * rho) ** 2 * math.log(math.sqrt(grown) / alpha))
    return Interval(mean, mean - width, mean + width)


def _shares_that_come(shares: Floats, candidate: Any) -> Floats:
    """The candidate's share of the outcomes at each weight, as it was known before each outcome."""
    result = np.empty(len(shares))
    for share in np.unique(shares).tolist():
        mine = np.flatnonzero(shares == share)
        came = np.concatenate([[0], np.cumsum(candidate[mine])[:-1]])
        result[mine] = (PRIOR_UNITS * share + came) / (PRIOR_UNITS + np.arange(len(mine)))
    return result.clip(1e-6, 1 - 1e-6)
