"""What the outputs of a model predict, found out or told by model.yaml, which may not contradict the model."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from gateway.backends.loaded_version import load_version
from gateway.backends.predictions import Predictions
from gateway.backends.trial import LoadTrial, try_versions
from gateway.backends.version_facts import VersionFacts, load
from gateway.errors import ModelUnavailable
from gateway.settings.model import Kind, ModelSettings
from tests import zoo
from tests.backends.onnx_models import FLOAT, place, save

Make = Callable[[Path], Path]


def same(width: int | str | None, kind: int = FLOAT) -> Make:
    """Gives back its input, [n, width] or [n]."""

    def make(path: Path) -> Path:
        shape = ["n"] if width is None else ["n", width]
        return save(path, [helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, shape)}, {"y": (kind, shape)})

    return make


def images(path: Path) -> Path:
    shape = ["n", 3, 4, 4]
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)})


def loaded(folder: Path, make: Make, settings: Any) -> VersionFacts:
    file = folder / "m" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    return load_version(make(file), ModelSettings.model_validate(settings), folder / "m" / "warmup.json")


def predictions(folder: Path, make: Make, prediction: Any, **settings: Any) -> Predictions:
    return loaded(folder, make, {"prediction": prediction, **settings}).predictions


@pytest.mark.parametrize(
    ("make", "prediction", "kind", "says"),
    [
        (same(3), {"output": "y"}, Kind.CLASSIFICATION, "classes on y"),
        (same(2), {"output": "y", "labels": ["leaves", "stays"]}, Kind.CLASSIFICATION, "classes: leaves, stays"),
        (zoo.zip_map(["leaves", "stays", "asks"]), None, Kind.CLASSIFICATION, "classes: asks, leaves, stays"),
        (same(1), {"output": "y"}, Kind.NONE, "none: accuracy and drift are not measured"),
        (same(1), None, Kind.NONE, "none: accuracy and drift are not measured"),
        (same(1), {"output": "y", "kind": "regression"}, Kind.REGRESSION, "regression on y"),
        (same(None), {"output": "y", "kind": "regression"}, Kind.REGRESSION, "regression on y"),
        (same(1, TensorProto.INT64), {"output": "y", "kind": "regression"}, Kind.REGRESSION, "regression on y"),
        (
            same(1),
            {"output": "y", "kind": "regression", "unit": "kg", "range": [0, 100]},
            Kind.REGRESSION,
            "regression on y (kg, 0 to 100)",
        ),
        (same(3), {"output": "y", "kind": "multilabel"}, Kind.MULTILABEL, "labels on y"),
        (
            same(2, TensorProto.BOOL),
            {"output": "y", "kind": "multilabel", "labels": ["red", "soft"]},
            Kind.MULTILABEL,
            "labels: red, soft",
        ),
        (same(1), {"output": "y", "kind": "ranking"}, Kind.RANKING, "ranking on y"),
        (same(8), {"output": "y", "kind": "ranking"}, Kind.RANKING, "ranking on y"),
        (same(8), {"output": "y", "kind": "embedding"}, Kind.EMBEDDING, "embedding on y"),
        (images, {"output": "y", "kind": "embedding"}, Kind.EMBEDDING, "embedding on y"),
        (same(3), {"output": "y", "kind": "none"}, Kind.NONE, "none: accuracy and drift are not measured"),
    ],
)  # fmt: skip
def test_kind_is_found_out_or_told(tmp_path: Path, make: Make, prediction: Any, kind: Kind, says: str) -> None:
    found = predictions(tmp_path, make, prediction)
    assert (found.main.kind, found.measurable[0].described) == (kind, says)
    assert (found.measurable[0].kind, bool(found.measurable[0].reason)) == (kind, kind is Kind.NONE)
    assert found.only_classes == (kind is Kind.CLASSIFICATION)


@pytest.mark.parametrize(
    ("make", "prediction", "says"),
    [
        (same(3), {"kind": "regression"}, "prediction.kind is regression, but output 'y', FP32 [-1, 3], has 3 numbers"),
        (zoo.identity("BYTES"), {"kind": "regression"}, "is regression, but output 'y', BYTES [-1, -1], holds text"),
        (same(1, TensorProto.BOOL), {"kind": "regression"}, "holds true and false"),
        (images, {"kind": "regression"}, "has more than two dimensions: it needs one number a row"),
        (same(1), {"kind": "classification"}, "prediction.kind is classification, but output 'y', FP32 [-1, 1],"),
        (images, {"kind": "classification"}, "has more than two dimensions"),
        (same(3), {"kind": "classification", "labels": list("abcde")}, "names 5 classes, but output 'y' gives 3"),
        (same(3), {"kind": "multilabel", "labels": list("ab")}, "labels names 2 labels, but output 'y', FP32 [-1, 3],"),
        (same(1), {"kind": "multilabel"}, "has one number a row: it needs one score or flag a row for each label"),
        (zoo.identity("BYTES"), {"kind": "ranking"}, "holds text: it needs a score for each item"),
        (images, {"kind": "ranking"}, "has more than two dimensions"),
        (same(1), {"kind": "embedding"}, "has one number a row: it needs several floats a row"),
        (same(1), {"kind": "regression", "output": "z"}, "prediction.output 'z' is no output; there are y"),
    ],
)  # fmt: skip
def test_kind_that_contradicts_the_model_is_refused(
    tmp_path: Path, make: Make, prediction: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        predictions(tmp_path, make, {"output": "y", **prediction})
    assert says in str(raised.value)
    assert "model.yaml: prediction" in str(raised.value)


def test_contradiction_of_one_of_several_outputs_names_it(tmp_path: Path) -> None:
    given = [{"output": "scaled", "kind": "embedding"}, {"output": "same_name", "kind": "regression"}]
    with pytest.raises(ModelUnavailable, match=r"prediction\[1\]\.kind is regression, but output 'same_name', BYTES"):
        predictions(tmp_path, zoo.mixed, given)


def test_several_outputs_each_predict_something(tmp_path: Path) -> None:
    given = [
        {"output": "scaled", "kind": "multilabel", "labels": ["a", "b", "c"], "threshold": 2},
        {"output": "same_name", "labels": ["x", "y"]},
    ]
    found = predictions(tmp_path, zoo.mixed, given)
    assert [one.described for one in found.measurable] == ["labels: a, b, c", "classes: x, y"]
    assert not found.only_classes
    answer = [np.array([[1, 2, 3], [0, math.nan, 9]], np.float32), np.array([["y"], ["z"]], object)]
    assert [output.rows(answer) for output in found.outputs] == [[(1, 2), None], [1, None]]
    assert found.classes.no_class_reason == "output 'scaled' is a multilabel, not a classification"


def test_output_of_any_width_needs_the_names_of_its_labels(tmp_path: Path) -> None:
    found = predictions(tmp_path, same("k"), {"output": "y", "kind": "multilabel"})
    assert "name the labels in prediction.labels" in found.main.reason


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_numbers_of_a_regression_are_read_row_by_row(tmp_path: Path, shape: tuple[int, ...]) -> None:
    main = predictions(tmp_path, same(1), {"output": "y", "kind": "regression"}).main
    assert main.rows([np.array([1.5, math.nan, -math.inf], np.float64).reshape(shape)]) == [1.5, None, None]
    assert main.rows([np.array([[7]], np.int64)]) == [7.0]
    assert main.rows([np.zeros((3, 2))]) == []


@pytest.mark.parametrize(
    ("make", "features", "says"),
    [
        (same(3), ["a", "b"], "features names 2 columns, but input 'x', FP32 [-1, 3], has 3 columns; name each column"),
        (images, ["a"], "features names 1 columns, but input 'x', FP32 [-1, 3, 4, 4], has more than two dimensions"),
        (same(3), {"z": ["a"]}, "features.z is no input; there are x"),
        (zoo.adding, ["a", "b", "c"], "features is one list, but the inputs are a, b; write {INPUT: [NAME, …]}"),
    ],
)
def test_features_that_do_not_fit_the_inputs_are_refused(tmp_path: Path, make: Make, features: Any, says: str) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        loaded(tmp_path, make, {"features": features})
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("make", "features"),
    [(same(3), ["a", "b", "c"]), (same("k"), ["a"]), (zoo.adding, {"b": ["x", "y", "z"]}), (same(None), ["a"])],
)
def test_features_that_fit_are_taken(tmp_path: Path, make: Make, features: Any) -> None:
    assert loaded(tmp_path, make, {"features": features}).settings.features


def test_version_in_a_process_of_its_own_is_described_in_full(tmp_path: Path) -> None:
    settings = {
        "prediction": {"output": "y", "kind": "regression", "unit": "kg", "range": [0, 9], "tolerance": 0.5},
        "features": ["weight"],
    }
    facts = loaded(tmp_path, same(1), settings)
    again = load(facts.dump())
    assert again.settings.prediction == facts.settings.prediction
    assert again.settings.features == ("weight",)
    assert again.predictions.measurable == facts.predictions.measurable


def test_load_trial_tells_what_is_predicted(tmp_path: Path) -> None:
    place(tmp_path, "m", 1, same(1))
    (tmp_path / "m" / "model.yaml").write_text("prediction: {output: y, kind: regression, range: [0, 9]}\n")
    (result,) = try_versions(tmp_path, [LoadTrial("m", 1, 1)])
    assert result.error == ""
    (found,) = result.measurable
    assert (found.kind, found.output, found.loss_range) == (Kind.REGRESSION, "y", [0, 9])
    assert found.described == "regression on y (0 to 9)"
