"""The e-processes: how strong the evidence is that the candidate is harmful, or harmless.

An e-process starts at 1, and its mean does not grow while its null hypothesis holds. So the chance that it ever reaches
1/alpha is at most alpha (Ville), however often it is checked, under any schedule of weights that depends on the past
only. Everything is in natural logarithms and computed from counts, which add up over workers and gateways.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Ratios = Sequence[float]
Attributed = Mapping[tuple[float, bool], int]  # (chance of the candidate, whether it was it) -> failures
FailedByChance = Mapping[tuple[float, bool, int], int]  # (chance, whether it was it, failures of the key) -> keys
Classes = npt.NDArray[np.int64]  # rows predicted as each class

FAILURE_RATIOS: Final = (1.5, 2.0, 3.0, 5.0, 10.0)
FEEDBACK_RATIOS: Final = (1.1, 1.25, 1.5, 2.0, 3.0)
HARMLESS_RATIOS: Final = (0.7, 0.85, 1.0)
TOLERATED_RATIO: Final = 1.5
SAMPLED: Final = (1.0, 0.25)  # of failures of sticky keys, all and some
MOST_TOLD: Final = 64  # failures of a key; that none of as many counts has a chance of 1e-5
PAIRED_SHARE: Final = 0.5  # chance that the candidate is the wrong one of two that disagree on the same input


NO_KEYS: Final[FailedByChance] = {}


class Block(NamedTuple):
    """Rows of both variants counted over the same period, by predicted class."""

    candidate: Classes
    stable: Classes


def log_harm(failures: Attributed, ratios: Ratios) -> float:
    """Return the log evidence against "the candidate fails no more often than stable", from which variant failed.

    Of a sticky key only the first failure since the evidence began may be counted, at the chance of its weight then.
    If both versions fail as often, it is the candidate's with that chance. If the candidate fails less often, its keys
    fail later, and so more of those that are still to fail for the first time are its own. But those of stable's that
    have failed by then have brought the evidence down by more. For let m be the part of all buckets below which that of
    a key must be, since stable would have failed it otherwise: the evidence times r / (1 + m (r - 1)) for each key that
    has not counted never grows in the mean, at any weights in any order. So where the evidence begins anew, all keys
    must be forgotten: else it would lack what those that had failed before have brought it down by. It is taken that
    customers send the candidate no more requests than stable, and do not leave because stable has failed them.

    `ratios`: the increases r tested for, equally weighted. Source: Lindon & Malek, NeurIPS 2022, arXiv 2011.03567.
    """
    return log_mean([_log_likelihood(failures, ratio) for ratio in ratios])


def log_safety(failures: Attributed, keys: FailedByChance = NO_KEYS, sampled: Sequence[float] = SAMPLED) -> float:
    """Return the log evidence against "the candidate fails at least TOLERATED_RATIO times as often as stable".

    `failures`: of requests that were assigned on their own. `keys`: sticky keys that have failed since the evidence
    began, each assigned once. Of them only one failure is evidence, and those of a worse version come sooner, and so
    run out sooner. So each of the candidate's counts with a chance that is TOLERATED_RATIO times less than that of
    stable's: at that ratio a key is then as likely to be the next whose failure counts with either version, however
    often it is used, whatever its rate and however that drifts; so that one is the candidate's with the chance of its
    weight. At a higher ratio more of the candidate's have counted at any time, and the evidence is less. What is
    returned is the mean over all such choices, which is known: none of n failures counts with a chance of (1 - c)^n.

    `sampled`: the chances with which stable's count; the evidence is the mean over them. If all do, it takes the
    fewest. If some do, failures that come together, as by retries, speak the less against a harmless candidate. That
    they come together makes the evidence weaker, never stronger. It is taken that customers use the candidate no less
    once it has failed; that a few keys fail more often, and no others, is not seen.
    """
    return log_mean(logs_of_safety(failures, keys, sampled))


def logs_of_safety(
    failures: Mapping[tuple[float, bool], float],
    keys: Mapping[tuple[float, bool, int], float] = NO_KEYS,
    sampled: Sequence[float] = SAMPLED,
) -> list[float]:
    """Return the logarithms that `log_safety` takes the mean of. The counts may be expected ones, in parts."""
    against = _log_likelihood(failures, TOLERATED_RATIO)
    return [
        _log_likelihood(failures, ratio) - against + _log_first_counted(keys, ratio / TOLERATED_RATIO, share)
        for ratio in HARMLESS_RATIOS
        for share in sampled
    ]


def log_drift(blocks: Iterable[Block]) -> float:
    """Return the log evidence against "both versions predict each class equally often".

    Each block is predicted from those before it. Source: Turner, Ly & Grünwald, arXiv 2106.02693.
    """
    total = 0.0
    before: Block | None = None
    for block in blocks:
        total += log_drift_of(block, before)
        before = block if before is None else Block(before.candidate + block.candidate, before.stable + block.stable)
    return total


def log_drift_of(block: Block, before: Block | None) -> float:
    """Return what one block adds to `log_drift`. `before`: the sum of all blocks before it."""
    candidate, stable = (
        _predicted_shares(len(arm), None if before is None else before[i]) for i, arm in enumerate(block)
    )
    rows = block.candidate.sum(), block.stable.sum()
    together = (rows[0] * candidate + rows[1] * stable) / max(1, sum(rows))
    if not sum(rows):
        return 0.0
    return float(block.candidate @ np.log(candidate / together) + block.stable @ np.log(stable / together))


def log_combined(logs: Sequence[float], shares: Sequence[float]) -> float:
    """Combine e-processes: the log of their mean, weighted by `shares`, which sum to 1. -inf for none."""
    weighted = [log + math.log(share) for log, share in zip(logs, shares, strict=True)]
    return log_sum(weighted)


def alpha_of(alpha: float, restart: int) -> float:
    """Return the part of `alpha` available after the evidence's `restart`th start (from 1): all parts sum to alpha."""
    return alpha * 6 / (math.pi * restart) ** 2


def reached(log_e: float, alpha: float) -> bool:
    """Whether the e-value has reached 1/alpha. All comparisons of evidence with alpha are made here."""
    return log_e >= -math.log(alpha)


def log_mean(logs: Sequence[float]) -> float:
    """Return the log of the mean of exp(`logs`)."""
    return log_sum(logs) - math.log(len(logs))


def log_sum(logs: Sequence[float]) -> float:
    """Return the log of the sum of exp(`logs`); -inf for none."""
    largest = max(logs, default=-math.inf)
    if largest == -math.inf:
        return largest
    return largest + math.log(sum(math.exp(log - largest) for log in logs))


def _log_likelihood(failures: Mapping[tuple[float, bool], float], ratio: float) -> float:
    """The log likelihood ratio of a failure ratio of `ratio` against 1, given which variant failed."""
    return sum(
        count * ((math.log(ratio) if candidate else 0.0) - math.log1p(chance * (ratio - 1)))
        for (chance, candidate), count in failures.items()
    )


def _log_first_counted(keys: Mapping[tuple[float, bool, int], float], ratio: float, share: float) -> float:
    """The log likelihood ratio of keys, of which the failures that count come `ratio` times as often if they are the
    candidate's. `share`: of stable's failures that count.
    """
    total = 0.0
    for (chance, candidate, failed), number in keys.items():
        factor = (ratio if candidate else 1.0) / (1 + chance * (ratio - 1))
        none = (1 - (share / TOLERATED_RATIO if candidate else share)) ** failed
        total += number * math.log(none + (1 - none) * factor)
    return total


def _predicted_shares(classes: int, before: Classes | None) -> npt.NDArray[np.float64]:
    """The predicted probability of each class from the counts `before`, plus one pseudo-count for each class."""
    counts: npt.NDArray[np.float64] = np.ones(classes)
    if before is not None:
        counts += before
    shares: npt.NDArray[np.float64] = counts / counts.sum()
    return shares
