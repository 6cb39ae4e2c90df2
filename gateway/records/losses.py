"""How far predictions were off: the outcomes of one request, the means over its judged rows (see `outcomes` there).

`wrong` and `loss` are the higher the worse; `loss` is what a guard compares where there is no other measure.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

Outcomes = Mapping[str, float]
NO_OUTCOMES: Final[Outcomes] = {}


def classification(correct: Sequence[bool]) -> Outcomes:
    """The share of judged rows whose class is wrong; `correct`: of each, at least one."""
    wrong = 1 - sum(correct) / len(correct)
    return {"wrong": wrong, "loss": wrong}


def multilabel(predicted: Sequence[frozenset[int]], truths: Sequence[frozenset[int]], labels: int) -> Outcomes:
    """`wrong`: the share of rows whose set of labels is not exactly right; `loss`: of labels that are wrong (Hamming).

    `labels`: how many labels the model knows.
    """
    different = [len(ours ^ theirs) for ours, theirs in zip(predicted, truths, strict=True)]
    return {"wrong": fmean(count > 0 for count in different), "loss": fmean(different) / labels}


def regression(predicted: Sequence[float], truths: Sequence[float]) -> Outcomes:
    """The mean absolute error, in the output's unit, the mean squared error, and the mean error (bias)."""
    errors = [ours - truth for ours, truth in zip(predicted, truths, strict=True)]
    return {
        "loss": fmean(map(abs, errors)),
        "squared_error": fmean(error * error for error in errors),
        "error": fmean(errors),
    }


def ranking(clicked: Sequence[Sequence[int]]) -> Outcomes:
    """What the positions that were clicked in each list say, 1: shown first; without a click all is 0, and the loss 1.

    NDCG with a gain of 1 for a clicked item. Source: Järvelin & Kekäläinen, ACM TOIS 20(4), 2002.
    """
    ndcg = fmean(map(_ndcg, clicked))
    return {
        "loss": 1 - ndcg,
        "ndcg": ndcg,
        "reciprocal_rank": fmean(1 / min(positions) if positions else 0.0 for positions in clicked),
    }


def _ndcg(positions: Sequence[int]) -> float:
    ideal = sum(1 / math.log2(place + 1) for place in range(1, len(positions) + 1))
    return sum(1 / math.log2(position + 1) for position in positions) / ideal if positions else 0.0
