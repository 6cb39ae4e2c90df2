"""How far off a prediction was: the outcomes of one row, by the kind of what is predicted."""

import math
from collections.abc import Sequence
from typing import Any

from gateway.records import losses
from gateway.records.losses import NO_OUTCOMES, Outcomes
from gateway.settings.model import Kind


def outcomes_of(kind: Kind | None, predicted: Any, truth: Any, labels: int) -> Outcomes:
    """The outcomes of one row, of a kind other than classification; empty if the truth cannot be compared.

    `predicted` and `truth` by kind: numbers; the indices of the labels, of which there are `labels`; for a ranking, the
    length of the list and the position or positions that were clicked, from 1.
    """
    if kind is Kind.REGRESSION:
        return _regression(predicted, truth)
    if kind is Kind.MULTILABEL:
        return _multilabel(predicted, truth, labels)
    return _ranking(predicted, truth) if kind is Kind.RANKING else NO_OUTCOMES


def of_class(correct: bool) -> Outcomes:
    """The outcomes of a row whose predicted class is right or wrong."""
    return losses.classification([correct])


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
    return losses.regression([predicted], [truth]) if _is_number(predicted) and _is_number(truth) else NO_OUTCOMES


def _multilabel(predicted: Any, truth: Any, labels: int) -> Outcomes:
    said, right = label_set(predicted, ()), label_set(truth, ())
    if said is None or right is None:
        return NO_OUTCOMES
    return losses.multilabel([said], [right], labels or max([*said, *right, 0]) + 1)


def _ranking(length: Any, truth: Any) -> Outcomes:
    clicked = sorted(set(truth)) if isinstance(truth, list) and all(type(one) is int for one in truth) else [truth]
    if not all(type(one) is int and one >= 1 for one in clicked):
        return NO_OUTCOMES
    if type(length) is int and any(position > length for position in clicked):
        return NO_OUTCOMES
    return losses.ranking([clicked])
