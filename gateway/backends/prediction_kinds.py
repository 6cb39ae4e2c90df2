"""Finds out what each output of a model predicts, once when a version is loaded, and refuses what contradicts it."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.backends.class_output import ClassOutput, OutputKind, class_output
from gateway.backends.classes import Classes
from gateway.backends.output_place import OutputPlace, output_place, shape_unknown
from gateway.backends.predictions import OutputPrediction, Predictions
from gateway.backends.signature import Signature
from gateway.errors import ModelUnavailable
from gateway.protocol.tensors import ObservedOutput, TensorSpec
from gateway.settings.model import Kind, ModelSettings, PredictionSettings

_OTHER_KINDS: Final[Mapping[Kind, str]] = {
    Kind.CLASSIFICATION: "name its classes in labels, or say what it is: regression, embedding or none",
    Kind.MULTILABEL: "it needs one score or flag a row for each label; for one class a row, say classification",
    Kind.REGRESSION: "it needs one number a row; for scores of classes say classification, for a vector embedding",
    Kind.RANKING: "it needs a score for each item, one a row or one list a row",
    Kind.EMBEDDING: "it needs several floats a row; for one number a row, say regression",
}


def predictions_of(
    settings: ModelSettings,
    signature: Signature,
    shown: Sequence[ObservedOutput | None],
    labels: Mapping[str, tuple[str, ...]],
) -> Predictions:
    """What the outputs predict. `labels`: by output; `shown`: seen in the warm-up, in the outputs' order.

    Raises ModelUnavailable if model.yaml contradicts the model.
    """
    _check_features(settings, signature)
    given = settings.prediction or tuple(PredictionSettings(output=name) for name in list(labels)[:1])
    if not given:
        names = ", ".join(spec.name for spec in signature.outputs)
        reason = f"model.yaml names no prediction.output; there are {names}"
        return Predictions([_none(PredictionSettings(output=""), 0, reason)])
    paths = ["prediction"] if len(given) == 1 else [f"prediction[{index}]" for index in range(len(given))]
    return Predictions(
        [_prediction(prediction, path, signature, shown, labels) for prediction, path in zip(given, paths, strict=True)]
    )


def _prediction(
    settings: PredictionSettings,
    path: str,
    signature: Signature,
    shown: Sequence[ObservedOutput | None],
    labels: Mapping[str, tuple[str, ...]],
) -> OutputPrediction:
    place = output_place(signature, shown, settings.output)
    if place is None:
        names = ", ".join(spec.name for spec in signature.outputs)
        raise ModelUnavailable(f"model.yaml: {path}.output '{settings.output}' is no output; there are {names}")
    own = labels.get(settings.output, ())
    if settings.kind in (None, Kind.CLASSIFICATION):
        found = class_output(place, own, path)
        if found.kind is not OutputKind.NONE:
            return OutputPrediction(settings.output, Kind.CLASSIFICATION, place.position, Classes(found), settings)
        if settings.kind is not None and place.shape_known:
            raise _contradiction(path, Kind.CLASSIFICATION, found.no_class_reason)
        return _none(settings, place.position, found.no_class_reason)
    kind = Kind(settings.kind)
    if kind is Kind.NONE:
        return _none(settings, place.position, f"model.yaml says {path}.kind: none")
    if wrong := _why_not(kind, place):
        raise _contradiction(path, kind, f"{place.described} {wrong}")
    if kind is Kind.MULTILABEL:
        return _multilabel(settings, place, own, path)
    return OutputPrediction(settings.output, kind, place.position, Classes(ClassOutput(OutputKind.NONE)), settings)


def _why_not(kind: Kind, place: OutputPlace) -> str:
    """Why the output cannot be of this kind; empty if it can, or if its shape is not known."""
    datatype, shape, width = place.spec.datatype, place.shape, place.width
    if datatype == "BYTES":
        return "holds text"
    if datatype == "BOOL" and kind is not Kind.MULTILABEL:
        return "holds true and false"
    if not place.shape_known:
        return ""
    if len(shape) > 2 and kind is not Kind.EMBEDDING:
        return "has more than two dimensions"
    column = len(shape) < 2 or width == 1
    if kind is Kind.REGRESSION and width is not None and not column:
        return f"has {width} numbers a row"
    if kind in (Kind.MULTILABEL, Kind.EMBEDDING) and column:
        return "has one number a row"
    return ""


def _multilabel(
    settings: PredictionSettings, place: OutputPlace, labels: tuple[str, ...], path: str
) -> OutputPrediction:
    width = place.width
    if labels and width is not None and width != len(labels):
        raise ModelUnavailable(
            f"model.yaml: {path}.labels names {len(labels)} labels, but {place.described} has {width} scores a row;"
            " name one label for each score, in the output's order"
        )
    if not labels and width is None:
        reason = f"{place.described} may have any number of scores a row: name the labels in {path}.labels"
        return _none(settings, place.position, reason if place.shape_known else shape_unknown(place.spec))
    classes = Classes(ClassOutput(OutputKind.SCORES, place.position, labels, width))
    return OutputPrediction(settings.output, Kind.MULTILABEL, place.position, classes, settings)


def _none(settings: PredictionSettings, position: int, reason: str) -> OutputPrediction:
    classes = Classes(ClassOutput(OutputKind.NONE, no_class_reason=reason))
    return OutputPrediction(settings.output, Kind.NONE, position, classes, settings, reason)


def _contradiction(path: str, kind: Kind, found: str) -> ModelUnavailable:
    return ModelUnavailable(f"model.yaml: {path}.kind is {kind}, but {found}: {_OTHER_KINDS[kind]}")


def _check_features(settings: ModelSettings, signature: Signature) -> None:
    """Refuse column names that do not fit the inputs."""
    features = settings.features
    if not features:
        return
    inputs = {spec.name: spec for spec in signature.inputs}
    if not isinstance(features, dict):
        if len(inputs) != 1:
            raise ModelUnavailable(
                f"model.yaml: features is one list, but the inputs are {', '.join(inputs)}; write {{INPUT: [NAME, …]}}"
            )
        features = {next(iter(inputs)): features}
    for name, columns in features.items():
        if name not in inputs:
            raise ModelUnavailable(f"model.yaml: features.{name} is no input; there are {', '.join(inputs)}")
        _check_columns(inputs[name], columns)


def _check_columns(spec: TensorSpec, columns: Sequence[str]) -> None:
    width = spec.shape[1] if len(spec.shape) == 2 else 1 if len(spec.shape) == 1 else -1
    if len(spec.shape) > 2 or width not in (-1, len(columns)):
        has = "more than two dimensions" if len(spec.shape) > 2 else f"{width} columns"
        raise ModelUnavailable(
            f"model.yaml: features names {len(columns)} columns, but input '{spec.name}', {spec.datatype}"
            f" {list(spec.shape)}, has {has}; name each column, in the input's order"
        )
