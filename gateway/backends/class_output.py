"""Finds the output of a model that holds its classes, and its form, once when a version is loaded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.backends.signature import Signature
from gateway.errors import ModelUnavailable
from gateway.protocol.tensors import ObservedOutput, TensorSpec
from gateway.settings.model import ModelSettings


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


def class_output(
    settings: ModelSettings,
    signature: Signature,
    shown: Sequence[ObservedOutput | None],
    labels: Mapping[str, tuple[str, ...]],
) -> ClassOutput:
    """Find the output that holds the classes. `labels`: by output; `shown`: seen in the warm-up, in the outputs' order.

    Raises ModelUnavailable if model.yaml contradicts the model.
    """
    names = [spec.name for spec in signature.outputs]
    if settings.prediction is None and not labels:
        return ClassOutput(
            OutputKind.NONE, no_class_reason=f"model.yaml names no prediction.output; there are {', '.join(names)}"
        )
    wanted = settings.prediction.output if settings.prediction else next(iter(labels))
    if wanted not in names:
        raise ModelUnavailable(f"model.yaml: prediction.output '{wanted}' is no output; there are {', '.join(names)}")
    position = names.index(wanted)
    spec, own = signature.outputs[position], labels.get(wanted, ())
    seen = shown[position] if position < len(shown) else None
    _check_names(spec, own)
    shape = spec.shape or (seen.shape if seen else ())
    width = _width(spec, signature, seen)
    kind, no_class_reason = _kind(spec, shape, width, own, seen is not None)
    if kind is OutputKind.SCORES and own and width is not None and width != len(own):
        raise _contradiction(spec, own, f"{width} scores a row")
    if kind is OutputKind.FLAGS and len(own) not in (0, 2):
        raise _contradiction(spec, own, "true or false")
    if kind is OutputKind.NONE and len(own) > 2 and width == 1 and spec.datatype.startswith("FP"):
        raise _contradiction(spec, own, "one score a row, which tells two classes apart")
    if kind is OutputKind.SINGLE and seen is not None and seen.value is not None and not 0 <= seen.value <= 1:
        kind, no_class_reason = (
            OutputKind.NONE,
            (f"output '{spec.name}' is {seen.value:.4g} in the warm-up, not a probability of the second class"),
        )
    if kind is OutputKind.NONE:
        return ClassOutput(kind, None, (), None, no_class_reason)
    return ClassOutput(kind, position, own, {OutputKind.SCORES: width, OutputKind.FLAGS: 2}.get(kind))


def _width(spec: TensorSpec, signature: Signature, seen: ObservedOutput | None) -> int | None:
    """The number of scores per row, if it is constant: declared, or seen if the inputs can have one size only."""
    if len(spec.shape) == 2 and spec.shape[1] >= 0:
        return spec.shape[1]
    of_one_size = all(-1 not in given.shape[1:] for given in signature.inputs)
    return seen.shape[1] if seen is not None and len(seen.shape) == 2 and of_one_size else None


def _kind(
    spec: TensorSpec, shape: tuple[int, ...], width: int | None, labels: tuple[str, ...], shown: bool
) -> tuple[OutputKind, str]:
    if not spec.shape and not shown:
        return (
            OutputKind.NONE,
            f"the shape of output '{spec.name}' is not known: put a V2 request that runs in warmup.json",
        )
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


def _check_names(spec: TensorSpec, labels: tuple[str, ...]) -> None:
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise ModelUnavailable(f"model.yaml: prediction.labels names '{twice[0]}' twice; each class needs its own name")
    if spec.labels and labels != spec.labels and sorted(labels) == sorted(spec.labels):
        raise ModelUnavailable(
            f"model.yaml: prediction.labels are {', '.join(labels)}, in another order than the model's own:"
            f" {', '.join(spec.labels)}"
        )


def _contradiction(spec: TensorSpec, labels: tuple[str, ...], gives: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"model.yaml: prediction.labels names {len(labels)} classes, but output '{spec.name}' gives {gives};"
        " name one label for each score, in the output's order"
    )
