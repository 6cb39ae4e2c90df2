"""What a model predicts, and how far off a prediction was: the outcomes of one row."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

Outcomes = Mapping[str, float]


class Kind(StrEnum):
    """What an output predicts."""

    CLASSIFICATION = "classification"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"
    RANKING = "ranking"
    EMBEDDING = "embedding"
    NONE = "none"


def outcomes_of(kind: Kind | None, predicted: Any, truth: Any, labels: int) -> Outcomes:
    """The outcomes of one row, of a kind other than classification; empty if the truth cannot be compared.

    `predicted` and `truth` by kind: numbers; the indices of the labels, of which there are `labels`; for a ranking, the
    length of the list and the position or positions that were clicked, from 1.
    """
    if kind is Kind.REGRESSION:
        return _regression(predicted, truth)
    if kind is Kind.MULTILABEL:
        return _multilabel(predicted, truth, labels)
    return _ranking(predicted, truth) if kind is Kind.RANKING else {}


def of_class(correct: bool) -> Outcomes:
    """The outcomes of a row whose predicted class is right or wrong."""
    return {"wrong": float(not correct), "loss": float(not correct)}


def label_set(value: Any, labels: Sequence[str]) -> frozenset[int] | None:
    """The indices of the labels that `value` says: names, indices, or a 0 or 1 for each; None if it says none of it."""
    if not isinstance(value, list | tuple):
        return None
    if labels and len(value) == len(labels) and all(one in (0, 1) for one in value) and len(value) > 2:
        return frozenset(index for index, one in enumerate(value) if one)
    known = {name: index for index, name in enumerate(labels)}
    found = [known.get(one) if isinstance(one, str) else one for one in value]
    return None if any(type(one) is not int for one in found) else frozenset(found)  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _regression(predicted: Any, truth: Any) -> Outcomes:
    if not _is_number(predicted) or not _is_number(truth):
        return {}
    error = float(predicted) - float(truth)
    return {"loss": abs(error), "squared_error": error * error, "error": error}


def _multilabel(predicted: Any, truth: Any, labels: int) -> Outcomes:
    said, right = label_set(predicted, ()), label_set(truth, ())
    if said is None or right is None:
        return {}
    count = labels or max([*said, *right, 0]) + 1
    return {"wrong": float(said != right), "loss": len(said ^ right) / count}


def _ranking(length: Any, truth: Any) -> Outcomes:
    clicked = sorted(set(truth)) if isinstance(truth, list) and all(type(one) is int for one in truth) else [truth]
    if not all(type(one) is int and one >= 1 for one in clicked) or (type(length) is int and clicked[-1:] > [length]):
        return {}
    if not clicked:
        return {"reciprocal_rank": 0.0, "ndcg": 0.0, "loss": 1.0}
    gain = sum(1 / math.log2(1 + position) for position in clicked)
    ideal = sum(1 / math.log2(2 + index) for index in range(len(clicked)))
    return {"reciprocal_rank": 1 / clicked[0], "ndcg": gain / ideal, "loss": 1 - gain / ideal}
