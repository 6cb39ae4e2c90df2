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
MAX_BYTES: Final = 24 * 1024**2  # of the image and the texts of a row; PNG and base64 included
MAX_COLUMNS: Final = 200  # features shown
DIGITS: Final = 8  # of a number shown: FP32 has no more


class Why(StrEnum):
    """Why a row is worth a label."""

    DISAGREEMENT = "disagreement"  # the candidate's mirrored answer is another one
    LOW_CONFIDENCE = "low confidence"
    SAMPLE = "sample"  # drawn at random, so that not only the hard ones are labelled


@dataclass(frozen=True, slots=True)
class Shown:
    """The inputs of a row. `image`: a data address; `text`: of a text input; `features`: all other values, by name.
    `image_left_out`: there is one, but it is too large.
    """

    image: str | None = None
    text: str | None = None
    features: Mapping[str, float | int | bool | str] = field(default_factory=dict)
    image_left_out: bool = False

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


def shown_of(modality: str | None, inputs: Sequence[Tensor], names: FeatureNames, most_bytes: int = MAX_BYTES) -> Shown:
    """What can be shown of the inputs of one row: an image and texts of about `most_bytes` in all."""
    image = text = None
    image_left_out = False
    features: dict[str, float | int | bool | str] = {}
    for tensor in inputs:
        if image is None and modality == "image" and (address := image_address(tensor)) is not None:
            if len(address) <= most_bytes:
                image = address
                most_bytes -= len(image)
                continue
            image_left_out = True
        if tensor.datatype == "BYTES" and tensor.data.size == 1 and text is None and modality != "tabular":
            text = _text(tensor.data.ravel()[0], most_bytes)
            most_bytes -= len(text)
            continue
        values = tensor.data.ravel().tolist()
        if len(features) + len(values) > MAX_COLUMNS:
            features[tensor.name] = f"({len(values):,} values)"
            continue
        for name, value in zip(names.of(tensor.name, len(values), len(inputs)), values, strict=True):
            features[name] = shown = _value(value, most_bytes)
            most_bytes -= len(shown) if isinstance(shown, str) else 0
    return Shown(image, text, features, image_left_out)


def _value(value: Any, most: int) -> float | int | bool | str:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)  # JSON has no infinities
    return value if isinstance(value, bool | int) else _text(value, most)


def _text(element: object, most: int) -> str:
    """The text, cut off at `most` characters or MAX_TEXT."""
    if isinstance(element, bytes):
        try:
            element = element.decode()
        except UnicodeDecodeError:
            return f"({len(element):,} bytes)"
    text, most = str(element), max(1, min(most, MAX_TEXT))
    return text if len(text) <= most else f"{text[: most - 1]}…"
