"""Finds the form in which an output holds classes, once when a version is loaded."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from gateway.backends.output_place import OutputPlace, shape_unknown
from gateway.errors import ModelUnavailable
from gateway.protocol.tensors import TensorSpec


class OutputKind(StrEnum):
    """The form of a row: a score for each class, the probability of the second class, or the class itself."""

    NONE = "none"
    SCORES = "scores"
    SINGLE = "single"
    FLAGS = "flags"
    NUMBERS = "numbers"
    NAMES = "names"


@dataclass(frozen=True, slots=True)
class ClassOutput:
    """The output with the classes. `position`: among the outputs; None if no output holds classes (`no_class_reason`).

    `width`: the number of scores per row, if known.
    """

    kind: OutputKind
    position: int | None = None
    labels: tuple[str, ...] = ()
    width: int | None = None
    no_class_reason: str = ""


def class_output(place: OutputPlace, own: tuple[str, ...], path: str) -> ClassOutput:
    """How an output holds classes. `own`: its labels; `path`: of its settings in model.yaml.

    Raises ModelUnavailable if they contradict the model.
    """
    spec, position, seen, width, shape = place.spec, place.position, place.seen, place.width, place.shape
    _check_names(spec, own, path)
    kind, no_class_reason = _kind(spec, shape, width, own, seen is not None)
    if kind is OutputKind.SCORES and own and width is not None and width != len(own):
        raise _contradiction(spec, own, f"{width} scores a row", path)
    if kind is OutputKind.FLAGS and len(own) not in (0, 2):
        raise _contradiction(spec, own, "true or false", path)
    if kind is OutputKind.NONE and len(own) > 2 and width == 1 and spec.datatype.startswith("FP"):
        raise _contradiction(spec, own, "one score a row, which tells two classes apart", path)
    if kind is OutputKind.SINGLE and seen is not None and seen.value is not None and not 0 <= seen.value <= 1:
        kind, no_class_reason = (
            OutputKind.NONE,
            (f"output '{spec.name}' is {seen.value:.4g} in the warm-up, not a probability of the second class"),
        )
    if kind is OutputKind.NONE:
        return ClassOutput(kind, None, (), None, no_class_reason)
    return ClassOutput(kind, position, own, {OutputKind.SCORES: width, OutputKind.FLAGS: 2}.get(kind))


def _kind(
    spec: TensorSpec, shape: tuple[int, ...], width: int | None, labels: tuple[str, ...], shown: bool
) -> tuple[OutputKind, str]:
    if not spec.shape and not shown:
        return OutputKind.NONE, shape_unknown(spec)
    named = f"output '{spec.name}', {spec.datatype} {list(shape)},"
    if len(shape) > 2:
        return OutputKind.NONE, f"{named} has more than two dimensions, so no class can be read for each row"
    column = len(shape) < 2 or width == 1
    if spec.datatype == "BYTES":
        return (
            (OutputKind.NAMES, "")
            if labels
            else (OutputKind.NONE, f"{named} gives names, and model.yaml no prediction.labels")
        )
    if spec.datatype.startswith("FP"):
        return _kind_of_floats(named, shape, column, labels)
    if not column and width is not None and len(labels) != width:
        return OutputKind.NONE, f"{named} has {width} numbers a row: to be scores they need as many prediction.labels"
    if not column and width is not None:
        return OutputKind.SCORES, ""
    return (OutputKind.FLAGS if spec.datatype == "BOOL" else OutputKind.NUMBERS), ""


def _kind_of_floats(
    named: str, shape: tuple[int, ...], column: bool, labels: tuple[str, ...]
) -> tuple[OutputKind, str]:
    if not column:
        return OutputKind.SCORES, ""
    if len(labels) == 2 and (not shape or len(shape) == 2 or shape[0] in (-1, 1)):
        return OutputKind.SINGLE, ""
    return OutputKind.NONE, (
        f"{named} holds one number a row and no score for each class; if it is the probability of the second of two"
        " classes, name both in prediction.labels"
    )


def _check_names(spec: TensorSpec, labels: tuple[str, ...], path: str) -> None:
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise ModelUnavailable(f"model.yaml: {path}.labels names '{twice[0]}' twice; each class needs its own name")
    if spec.labels and labels != spec.labels and sorted(labels) == sorted(spec.labels):
        raise ModelUnavailable(
            f"model.yaml: {path}.labels are {', '.join(labels)}, in another order than the model's own:"
            f" {', '.join(spec.labels)}"
        )


def _contradiction(spec: TensorSpec, labels: tuple[str, ...], gives: str, path: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"model.yaml: {path}.labels names {len(labels)} classes, but output '{spec.name}' gives {gives};"
        " name one label for each score, in the output's order"
    )
