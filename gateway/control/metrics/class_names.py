"""The names of classes in metrics and documents: a bounded number."""

from collections.abc import Sequence
from typing import Final

from gateway.shm.tally import CLASSES

OTHER_CLASS: Final = "other"  # classes beyond those counted individually


def class_name(index: int, labels: Sequence[str]) -> str:
    """Return the class's label, or its index if unknown. The last index stands for all classes from there on, unless
    the labels show that there are no more.
    """
    if index == CLASSES - 1 and len(labels) != CLASSES:
        return OTHER_CLASS
    return labels[index] if index < len(labels) else str(index)
