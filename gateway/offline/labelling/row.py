"""A row that is worth a label, with its inputs as people can see them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.offline.analysis.features import FeatureNames
from gateway.offline.labelling.png import image_address
from gateway.protocol.tensors import Tensor
from gateway.settings.model import Kind

MAX_TEXT: Final = 20_000  # characters shown
MAX_COLUMNS: Final = 200  # features shown
DIGITS: Final = 8  # of a number shown: FP32 has no more


class Why(StrEnum):
    """Why a row is worth a label."""

    DISAGREEMENT = "disagreement"  # the candidate's mirrored answer is another one
    LOW_CONFIDENCE = "low confidence"
    SAMPLE = "sample"  # drawn at random, so that not only the hard ones are labelled


@dataclass(frozen=True, slots=True)
class Shown:
    """The inputs of a row. `image`: a data address; `text`: of a text input; `features`: all other values, by name."""

    image: str | None = None
    text: str | None = None
    features: Mapping[str, float | int | bool | str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to see: inputs are not recorded."""
        return self.image is None and self.text is None and not self.features


@dataclass(frozen=True, slots=True, kw_only=True)
class RowToLabel:
    """One row without a truth. `row`: None if the request had only one; `predicted`: as in Example, of kind `kind`;
    `score`: of the predicted class.

    `other`: what the candidate, `other_version`, predicted, if that is another. `classes`: the number of scores.
    """

    prediction_id: str
    row: int | None
    why: Why
    time_ns: int
    model: str
    version: int
    kind: Kind | None
    predicted: Any
    shown: Shown
    score: float | None = None
    margin: float | None = None
    other: Any = None
    other_version: int | None = None
    classes: int = 0


def shown_of(modality: str | None, inputs: Sequence[Tensor], names: FeatureNames) -> Shown:
    """What can be shown of the inputs of one row."""
    image = text = None
    features: dict[str, float | int | bool | str] = {}
    for tensor in inputs:
        if image is None and modality == "image" and (image := image_address(tensor)) is not None:
            continue
        if tensor.datatype == "BYTES" and tensor.data.size == 1 and text is None and modality != "tabular":
            text = _text(tensor.data.ravel()[0])
            continue
        values = tensor.data.ravel().tolist()
        if len(features) + len(values) > MAX_COLUMNS:
            features[tensor.name] = f"({len(values):,} values)"
            continue
        named = names.of(tensor.name, len(values), len(inputs))
        features.update(zip(named, map(_value, values), strict=True))
    return Shown(image, text, features)


def _value(value: Any) -> float | int | bool | str:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)  # JSON has no infinities
    return value if isinstance(value, bool | int) else _text(value)


def _text(element: object) -> str:
    if isinstance(element, bytes):
        try:
            element = element.decode()
        except UnicodeDecodeError:
            return f"({len(element):,} bytes)"
    text = str(element)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
