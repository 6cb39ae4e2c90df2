"""Finds the columns of a flat export: one column a feature, which all requests must fill alike."""

from collections.abc import Sequence
from typing import Final

from gateway.errors import InvalidRequest
from gateway.offline.analysis.features import FeatureNames
from gateway.offline.dataset.flat import FlatInput, FlatLayout
from gateway.offline.dataset.flat_rows import REMEDY, FlatPrediction
from gateway.offline.dataset.schema import Tensors
from gateway.offline.examples import Predicting
from gateway.settings.model import Kind

MAX_FEATURES: Final = 4096
FLAT_KINDS: Final = (Kind.CLASSIFICATION, Kind.MULTILABEL, Kind.REGRESSION)


class FlatSurvey:
    """Collects the columns. `kind`: what is predicted, None if it is not known; `classes`: the number of classes or
    labels; `has_scores`: whether there are scores of them.
    """

    def __init__(self, predicting: Predicting, names: FeatureNames) -> None:
        self.kind: Kind | None = None
        self.classes = len(predicting.labels)
        self.has_scores = False
        self._predicting = predicting
        self._names = names
        self._widths: dict[str, int] = {}
        self._datatypes: dict[str, str] = {}

    def add(self, flat: FlatPrediction, tensors: Tensors) -> None:
        """Note the columns of a prediction. Raises InvalidRequest if they cannot be those of the others."""
        self._note_kind(flat)
        for name, array in flat.inputs.items():
            width = self._widths.setdefault(name, array.shape[1])
            if width != array.shape[1]:
                raise InvalidRequest(
                    f"input '{name}' has rows of {width} and of {array.shape[1]} values, which are no columns; {REMEDY}"
                )
            datatype = tensors.inputs[name].datatype
            self._datatypes[name] = _widest(name, self._datatypes.get(name, datatype), datatype)
        if sum(self._widths.values()) > MAX_FEATURES:
            raise InvalidRequest(
                f"the inputs have {sum(self._widths.values()):,} columns, and {MAX_FEATURES:,} is the limit; {REMEDY}"
            )

    def layout(self) -> FlatLayout:
        """The columns; the inputs' in the order in which they were seen first. Raises InvalidRequest."""
        if self.kind is None:
            raise InvalidRequest(
                f"what the model predicts is not known: say it with `prediction` in model.yaml, or {REMEDY}"
            )
        inputs = [
            FlatInput(name, self._datatypes[name], self._columns(name, width)) for name, width in self._widths.items()
        ]
        classes = () if self.kind is Kind.REGRESSION else range(self.classes)
        return FlatLayout(
            inputs=inputs,
            predicting=self._predicting,
            kind=self.kind,
            classes=[self._predicting.name_of(index) for index in classes],
            has_scores=self.has_scores,
        )

    def _columns(self, name: str, width: int) -> Sequence[str]:
        given = self._names.of(name, width, len(self._widths))
        return [f"{name}_{index}" for index in range(width)] if width > 1 and given[0] == f"{name}[0]" else given

    def _note_kind(self, flat: FlatPrediction) -> None:
        for example in flat.examples:
            if example.kind is None or example.kind is self.kind:
                continue
            if self.kind is not None or example.kind not in FLAT_KINDS:
                what = f"both {self.kind} and {example.kind}" if self.kind is not None else f"a {example.kind}"
                raise InvalidRequest(
                    f"the outputs are {what}, and a flat table holds {', '.join(FLAT_KINDS)}: say `prediction` in"
                    f" model.yaml, or {REMEDY}"
                )
            self.kind = example.kind
        if flat.scores is not None:
            self.has_scores = True
            self.classes = max(self.classes, flat.scores.shape[1])
        elif self.kind is Kind.MULTILABEL:
            seen = [index for one in flat.examples for index in (*(one.predicted or ()), *one.true_labels)]
            self.classes = max([self.classes, *(index + 1 for index in seen)])


def _widest(name: str, one: str, other: str) -> str:
    """The datatype that holds values of both."""
    if one == other:
        return one
    if "BYTES" in (one, other) or "BOOL" in (one, other):
        raise InvalidRequest(f"input '{name}' is {one} in some requests and {other} in others; {REMEDY}")
    kinds = {datatype.rstrip("0123456789") for datatype in (one, other)}
    if kinds == {"FP"}:
        return "FP64" if "FP64" in (one, other) else "FP32"
    return "INT64" if "FP" not in kinds and "UINT64" not in (one, other) else "FP64"
