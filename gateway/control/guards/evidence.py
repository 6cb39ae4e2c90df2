"""The e-processes: how strongly what was seen speaks for a harmful candidate, or for a harmless one.

An e-process starts at 1 and does not grow on average while its null hypothesis holds. So the chance that it ever
reaches 1/alpha is alpha at most (Ville), however often one looks, under any schedule of weights that the past decides.
Everything is in natural logarithms, and computed from counts, which add up over workers and gateways.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Ratios = Sequence[float]
Attributed = Mapping[tuple[float, bool], int]  # by the chance of being the candidate's, and whether it was: how many
Classes = npt.NDArray[np.int64]  # rows predicted as each class

FAILURE_RATIOS: Final = (1.5, 2.0, 3.0, 5.0, 10.0)
FEEDBACK_RATIOS: Final = (1.1, 1.25, 1.5, 2.0, 3.0)
HARMLESS_RATIOS: Final = (0.7, 0.85, 1.0)
TOLERATED_RATIO: Final = 1.5
PAIRED: Final = 0.5  # of two versions that disagree on the same input, either may be the wrong one


class Block(NamedTuple):
    """Rows of both variants that were counted together, by predicted class."""

    candidate: Classes
    stable: Classes


def log_harm(failures: Attributed, ratios: Ratios) -> float:
    """Against "the candidate fails no more often than stable": which variant did each failure come from?

    `ratios` are the increases that are looked for, all equally. Source: Lindon & Malek, NeurIPS 2022, arXiv 2011.03567.
    """
    return log_mean([_log_likelihood(failures, ratio) for ratio in ratios])


def log_safety(failures: Attributed) -> float:
    """Against "the candidate fails at least TOLERATED_RATIO times as often as stable": the reverse of `log_harm`."""
    against = _log_likelihood(failures, TOLERATED_RATIO)
    return log_mean([_log_likelihood(failures, ratio) - against for ratio in HARMLESS_RATIOS])


def log_drift(blocks: Iterable[Block]) -> float:
    """Against "both versions predict each class equally often".

    Each block is foretold from those before it. Source: Turner, Ly & Grünwald, arXiv 2106.02693.
    """
    total = 0.0
    before: Block | None = None
    for block in blocks:
        total += log_drift_of(block, before)
        before = block if before is None else Block(before.candidate + block.candidate, before.stable + block.stable)
    return total


def log_drift_of(block: Block, before: Block | None) -> float:
    """What one block adds to `log_drift`. `before`: all blocks before it, added up."""
    candidate, stable = (_foretold(len(arm), None if before is None else before[i]) for i, arm in enumerate(block))
    rows = block.candidate.sum(), block.stable.sum()
    together = (rows[0] * candidate + rows[1] * stable) / max(1, sum(rows))
    if not sum(rows):
        return 0.0
    return float(block.candidate @ np.log(candidate / together) + block.stable @ np.log(stable / together))


def log_combined(logs: Sequence[float], shares: Sequence[float]) -> float:
    """Several e-processes as one: their mean, weighted by `shares`, which sum to 1. -inf for none."""
    weighted = [log + math.log(share) for log, share in zip(logs, shares, strict=True)]
    return log_sum(weighted)


def alpha_of(alpha: float, restart: int) -> float:
    """The part of `alpha` that the evidence may spend after its nth start, from 1 on: all parts sum to alpha."""
    return alpha * 6 / (math.pi * restart) ** 2


def reached(log_e: float, alpha: float) -> bool:
    """Whether the evidence is enough: the one place where it is compared."""
    return log_e >= -math.log(alpha)


def log_mean(logs: Sequence[float]) -> float:
    """The logarithm of the mean of what `logs` are the logarithms of."""
    return log_sum(logs) - math.log(len(logs))


def log_sum(logs: Sequence[float]) -> float:
    """The logarithm of the sum of what `logs` are the logarithms of."""
    largest = max(logs, default=-math.inf)
    if largest == -math.inf:
        return largest
    return largest + math.log(sum(math.exp(log - largest) for log in logs))


def _log_likelihood(failures: Attributed, ratio: float) -> float:
    """How well `ratio` explains which variant failed, against a ratio of 1."""
    return sum(
        count * ((math.log(ratio) if candidate else 0.0) - math.log1p(chance * (ratio - 1)))
        for (chance, candidate), count in failures.items()
    )


def _foretold(classes: int, before: Classes | None) -> npt.NDArray[np.float64]:
    """The probability of each class after what was counted `before`, with one row of each imagined beside it."""
    counts: npt.NDArray[np.float64] = np.ones(classes)
    if before is not None:
        counts += before
    shares: npt.NDArray[np.float64] = counts / counts.sum()
    return shares
