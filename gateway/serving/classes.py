"""Which class a model has predicted, read from the output that model.yaml names (`prediction`), or that has labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from gateway.serving.session import Result
from gateway.serving.signature import Signature
from gateway.settings.model_settings import ModelSettings
from gateway.tensors import TensorSpec

NO_CLASS: Final = -1
MOST_CLASSES: Final = 2**31 - 1
_Read = Callable[[Any], list[int]]


class Classes:
    """The classes of one model version. `labels` are their names in order, empty where no one says them."""

    __slots__ = ("_index", "_position", "_read", "labels")

    def __init__(self, settings: ModelSettings, signature: Signature, labels: Mapping[str, tuple[str, ...]]) -> None:
        position = _position(settings, signature, labels)
        self.labels: tuple[str, ...] = () if position is None else labels.get(signature.outputs[position].name, ())
        self._index = {label: index for index, label in enumerate(self.labels)}
        self._position = position
        self._read: _Read = self._reader(signature.outputs[position]) if position is not None else lambda result: []

    def predicted(self, results: Sequence[Result]) -> list[int]:
        """The class of each row, NO_CLASS where it has none; empty where the model predicts no classes."""
        if self._position is None:
            return []
        result = results[self._position]
        return [] if result is None else self._read(result)

    def index_of(self, truth: object) -> int | None:
        """The class that feedback means: by its name, by its number where that is its name, or by its index."""
        if isinstance(truth, bool | str):
            return self._index.get(str(truth).lower() if isinstance(truth, bool) else truth)
        if not isinstance(truth, int | float) or truth != truth or abs(truth) > MOST_CLASSES or truth != int(truth):
            return None
        named = self._index.get(str(int(truth)))
        if named is not None:
            return named
        return int(truth) if truth >= 0 and (not self.labels or truth < len(self.labels)) else None

    def _reader(self, spec: TensorSpec) -> _Read:
        if spec.datatype == "BYTES":
            return self._of_names
        return _of_scores if spec.datatype.startswith("FP") else self._of_numbers

    def _of_names(self, result: Any) -> list[int]:
        return [self._index.get(str(name), NO_CLASS) for name in result.ravel()]

    def _of_numbers(self, result: Any) -> list[int]:
        return [NO_CLASS if (index := self.index_of(number)) is None else index for number in result.ravel().tolist()]


def _of_scores(result: Any) -> list[int]:
    """The highest score of each row. One row is the common case, and numpy's shortest way."""
    if len(result) == 1:
        return [int(result.argmax())]
    if result.ndim != 2 or not result.size:
        return []
    return [int(index) for index in np.argmax(result, axis=1)]


def _position(settings: ModelSettings, signature: Signature, labels: Mapping[str, tuple[str, ...]]) -> int | None:
    names = [spec.name for spec in signature.outputs]
    wanted = settings.prediction.output if settings.prediction else next(iter(labels), None)
    if wanted not in names:
        return None
    spec = signature.outputs[names.index(wanted)]
    scores = spec.datatype.startswith("FP")
    if scores and (len(spec.shape) != 2 or spec.shape[1] == 1):
        return None  # one number a row is a regression, not the scores of classes
    return names.index(wanted)
