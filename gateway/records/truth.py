"""What a client says the right answer was, in terms of the model's classes."""

from collections.abc import Sequence

import orjson


def class_of(truth: object, labels: Sequence[str]) -> int | None:
    """The class that `truth` names, by its label or by its index; None where it names none.

    A label comes first: where the labels are ["3", "5"], "5" is class 1, and 5 is no class.
    """
    if isinstance(truth, float) and truth.is_integer():
        truth = int(truth)
    text = truth if isinstance(truth, str) else None
    if labels and text is not None:
        return labels.index(text) if text in labels else None
    if isinstance(truth, int) and truth >= 0 and (not labels or truth < len(labels)):
        return int(truth)
    return None


def same_as(truth: object, labels: Sequence[str]) -> bytes:
    """A key that two truths share when they mean the same: 7, 7.0 and, where "7" is the label of class 7, "7"."""
    number = class_of(truth, labels)
    return orjson.dumps(truth if number is None else number, option=orjson.OPT_SORT_KEYS)
