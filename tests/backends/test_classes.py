"""Which class a model predicted, and which one a client's truth names: real models, loaded as the gateway does."""

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.backends.classes import MAX_CLASSES, Classes
from gateway.backends.in_worker import in_worker
from gateway.backends.inert_guards import inert_guards
from gateway.backends.loaded_version import load_version
from gateway.backends.measurable import Measurable
from gateway.backends.version import ModelVersion
from gateway.errors import ModelUnavailable
from gateway.protocol.classification import NO_CLASS
from gateway.settings.model import Kind, ModelSettings
from gateway.settings.routing import ReleaseSettings
from gateway.shm.tally import Tally
from tests import zoo
from tests.backends.onnx_models import FLOAT, save

SCORES = {"prediction": {"output": "y"}}
NAMED = {"prediction": {"output": "y", "labels": ["cat", "dog", "eel"]}}
CLASSES = [Measurable(Kind.CLASSIFICATION, "y")]
BOTH = {1: CLASSES, 2: CLASSES}
LACKING = {1: CLASSES, 2: [Measurable(Kind.NONE, "y", "it has no classes")]}
DIGITS = {"prediction": {"output": "y", "labels": ["3", "5", "7"]}}


def version(folder: Path, make: Callable[[Path], Path], settings: Any) -> ModelVersion:
    file = folder / "m" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    loaded = load_version(make(file), ModelSettings.model_validate(settings), folder / "m" / "warmup.json")

    async def on_a_loop() -> ModelVersion:
        return in_worker("m", 1, loaded, Tally())

    return asyncio.run(on_a_loop())


def three_scores(path: Path) -> Path:
    node = zoo.helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])})


def one_number(path: Path) -> Path:
    node = zoo.helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], {"x": (FLOAT, ["n", 1])}, {"y": (FLOAT, ["n", 1])})


def classes(folder: Path, make: Callable[[Path], Path] = three_scores, settings: Any = NAMED) -> Classes:
    return version(folder, make, settings).classes


def predicted(served: ModelVersion, x: Sequence[Any], dtype: Any = np.float32) -> list[int]:
    return served.classes.predicted(served.facts.session.run({"x": np.array(x, dtype)}))


def test_highest_score_of_each_row_is_its_class(tmp_path: Path) -> None:
    served = version(tmp_path, three_scores, SCORES)
    assert predicted(served, [[0.1, 0.7, 0.2]]) == [1]
    assert predicted(served, [[0.1, 0.7, 0.2], [3, 2, 1], [-3, -2, -1]]) == [1, 0, 2]
    assert predicted(served, [[5, 5, 5]]) == [0], "of equal scores the first"
    assert predicted(served, np.zeros((0, 3))) == []
    assert served.classes.labels == ()


def test_without_settings_or_labels_no_class_is_read(tmp_path: Path) -> None:
    served = version(tmp_path, three_scores, {})
    assert predicted(served, [[0.1, 0.7, 0.2]]) == []
    assert served.classes.labels == ()


def test_regression_has_no_predicted_class(tmp_path: Path) -> None:
    served = version(tmp_path, one_number, SCORES)
    assert predicted(served, [[0.7]]) == []


def test_vector_output_is_treated_as_regression(tmp_path: Path) -> None:
    def make(path: Path) -> Path:
        node = zoo.helper.make_node("Identity", ["x"], ["y"])
        return save(path, [node], {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])})

    assert predicted(version(tmp_path, make, SCORES), [0.7, 0.1]) == []


def test_output_of_label_numbers_gives_the_index_of_the_label(tmp_path: Path) -> None:
    served = version(tmp_path, zoo.identity("INT64"), DIGITS)
    assert predicted(served, [[5], [3], [7], [4]], np.int64) == [1, 0, 2, NO_CLASS]


def test_label_numbers_without_names_are_classes_themselves(tmp_path: Path) -> None:
    served = version(tmp_path, zoo.identity("INT64"), SCORES)
    assert predicted(served, [[5], [0], [-1]], np.int64) == [5, 0, NO_CLASS]


def test_output_of_label_names_gives_the_index_of_the_label(tmp_path: Path) -> None:
    served = version(tmp_path, zoo.identity("BYTES"), NAMED)
    assert predicted(served, [["dog"], ["eel"], ["cow"]], object) == [1, 2, NO_CLASS]


@pytest.mark.parametrize(
    ("labels", "names"), [([3, 5, 7], ("3", "5", "7")), (["cat", "dog", "eel"], ("cat", "dog", "eel"))]
)
def test_zip_map_supplies_the_class_names(tmp_path: Path, labels: list[Any], names: tuple[str, ...]) -> None:
    served = version(tmp_path, zoo.zip_map(labels), {})
    assert served.classes.labels == names
    (spec,) = served.signature.inputs
    rows = np.array([[5, 0, 0], [0, 0, 5]], np.float32)
    assert served.classes.predicted(served.facts.session.run({spec.name: rows})) == [0, 2]


def test_label_output_beside_a_zip_map_can_be_selected(tmp_path: Path) -> None:
    settings = {"prediction": {"output": "output_label", "labels": ["3", "5", "7"]}}
    served = version(tmp_path, zoo.zip_map([3, 5, 7]), settings)
    (spec,) = served.signature.inputs
    rows = np.array([[0, 5, 0], [0, 0, 5]], np.float32)
    assert served.classes.predicted(served.facts.session.run({spec.name: rows})) == [1, 2]


@pytest.mark.parametrize(
    ("truth", "index"),
    [("dog", 1), ("eel", 2), (0, 0), (2, 2), (1.0, 1), ("cow", None), ("Dog", None), ("", None), (3, None), (-1, None)],
)
def test_truth_by_name_or_index(tmp_path: Path, truth: object, index: int | None) -> None:
    assert classes(tmp_path).index_of(truth) == index


@pytest.mark.parametrize(
    ("truth", "index"), [("3", 0), ("7", 2), (3, 0), (5.0, 1), (7, 2), (1, None), (0, None), (4, None), ("4", None)]
)
def test_truth_matches_a_numeric_name_before_an_index(tmp_path: Path, truth: object, index: int | None) -> None:
    """3 is the class "3". Where labels are numbers, a number that is no label is a mistake, not an index."""
    assert classes(tmp_path, settings=DIGITS).index_of(truth) == index


def test_truth_without_names_is_an_index(tmp_path: Path) -> None:
    found = classes(tmp_path, settings=SCORES)
    assert found.index_of(2) == 2
    assert found.index_of("2") == 2, "as a file of truths has it"
    assert (found.index_of(3), found.index_of("3"), found.index_of(1_000_000)) == (None, None, None)
    assert [found.index_of(text) for text in ("-1", "2.0", " 2", "two", "²", "")] == [None] * 6


@pytest.mark.parametrize(
    "truth",
    [1.5, float("nan"), float("inf"), -float("inf"), MAX_CLASSES + 1, 2**63, 1e300, None, [], [1], {}, {"a": 1}, b"1"],
    ids=repr,
)
def test_index_of_returns_none_for_what_is_no_class(tmp_path: Path, truth: object) -> None:
    assert classes(tmp_path).index_of(truth) is None


def test_truth_may_be_a_boolean_where_labels_are_true_and_false(tmp_path: Path) -> None:
    found = classes(tmp_path, settings={"prediction": {"output": "y", "labels": ["false", "true", "maybe"]}})
    assert (found.index_of(True), found.index_of(False)) == (1, 0)


def test_boolean_truth_is_no_class_where_no_label_has_that_name(tmp_path: Path) -> None:
    assert classes(tmp_path).index_of(True) is None


# NaN, and outputs other than one score for each class.


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_row_with_nan_has_no_class_and_other_rows_keep_theirs(tmp_path: Path, dtype: Any) -> None:
    made = version(tmp_path, three_scores, NAMED).classes
    nan, inf = math.nan, math.inf
    assert made.predicted([np.array([[nan, 0.1, 0.9]], dtype)]) == [NO_CLASS]
    assert made.predicted([np.array([[0.1, 0.9, nan]], dtype)]) == [NO_CLASS]
    assert made.predicted([np.array([[nan, nan, nan]], dtype)]) == [NO_CLASS]
    rows = [[0.1, 0.9, 0], [0.9, nan, 0], [0, 0, 1], [-inf, -inf, 0], [0, inf, 1], [nan, inf, 1]]
    assert made.predicted([np.array(rows, dtype)]) == [1, NO_CLASS, 2, 2, 1, NO_CLASS]


def test_score_count_that_differs_from_the_labels_gives_no_class(tmp_path: Path) -> None:
    made = version(tmp_path, zoo.identity("FP32"), NAMED).classes
    assert made.predicted([np.array([[0, 1, 0]], np.float32)]) == [1]
    assert made.predicted([np.array([[0, 1]], np.float32)]) == [NO_CLASS]
    assert made.predicted([np.array([[0, 1, 2, 3], [0, 1, 2, 3]], np.float32)]) == [NO_CLASS] * 2
    assert made.predicted([np.zeros((1, 0), np.float32)]) == []


def one_probability(path: Path) -> Path:
    node = zoo.helper.make_node("Sigmoid", ["x"], ["y"])
    return save(path, [node], {"x": (FLOAT, ["n", 1])}, {"y": (FLOAT, ["n", 1])})


TWO = {"prediction": {"output": "y", "labels": ["ham", "spam"]}}


def test_single_probability_belongs_to_the_second_of_two_labels(tmp_path: Path) -> None:
    made = version(tmp_path, one_probability, TWO).classes
    assert (made.no_class_reason, made.labels) == ("", ("ham", "spam"))
    scores = np.array([[0.5], [0.49], [1], [0], [math.nan], [1.5], [-0.1]], np.float32)
    assert made.predicted([scores]) == [1, 0, 1, 0, NO_CLASS, NO_CLASS, NO_CLASS]
    assert made.predicted([scores[:1]]) == [1]
    assert made.predicted([scores.ravel()[:2]]) == [1, 0]


def bools(path: Path) -> Path:
    node = zoo.helper.make_node("Greater", ["x", "x"], ["y"])
    return save(path, [node], {"x": (FLOAT, ["n", 1])}, {"y": (zoo.TensorProto.BOOL, ["n", 1])})


@pytest.mark.parametrize(("labels", "truths"), [([], [True, "true", 1]), (["ham", "spam"], ["spam", 1, True])])
def test_boolean_output_gives_two_classes(tmp_path: Path, labels: list[str], truths: list[Any]) -> None:
    made = version(tmp_path, bools, {"prediction": {"output": "y", "labels": labels}}).classes
    assert made.predicted([np.array([[True], [False]])]) == [1, 0]
    assert [made.index_of(truth) for truth in truths] == [1, 1, 1]
    assert [made.index_of(truth) for truth in (2, "2", "yes")] == [None] * 3


@pytest.mark.parametrize(
    ("labels", "truth", "index"),
    [
        (["1.0", "2.0"], 1.0, 0),
        (["1.0", "2.0"], 2, 1),
        (["1.0", "2.0"], 0, None),
        (["True", "False"], True, 0),
        (["-1", "1"], -1, 0),
        (["-1", "1"], 0, None),
        ([str(n) for n in range(10)], 10, None),
        ([str(n) for n in range(10)], "10", None),
    ],
)
def test_truth_for_numeric_labels_matches_a_label_and_never_an_index(
    tmp_path: Path, labels: list[str], truth: Any, index: int | None
) -> None:
    made = classes(tmp_path, zoo.identity("INT64"), {"prediction": {"output": "y", "labels": labels}})
    assert made.index_of(truth) == index


@pytest.mark.parametrize(
    ("make", "prediction", "says"),
    [
        (three_scores, {"labels": ["a", "b", "c", "d", "e"]}, "names 5 classes, but output 'y' gives 3 scores a row"),
        (three_scores, {"labels": ["a", "b"]}, "names 2 classes, but output 'y' gives 3 scores a row"),
        (one_number, {"labels": ["a", "b", "c"]}, "names 3 classes, but output 'y' gives one score a row"),
        (bools, {"labels": ["a", "b", "c"]}, "names 3 classes, but output 'y' gives true or false"),
        (three_scores, {"labels": ["a", "b", "a"]}, "names 'a' twice"),
        (three_scores, {"output": "z"}, "prediction.output 'z' is no output; there are y"),
    ],
)
def test_labels_that_contradict_the_model_are_refused(
    tmp_path: Path, make: Callable[[Path], Path], prediction: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelUnavailable, match=re.escape(says)):
        version(tmp_path, make, {"prediction": {"output": "y", **prediction}})


def test_labels_in_another_order_than_the_model_s_own_are_refused(tmp_path: Path) -> None:
    settings = {"prediction": {"output": "output_probability", "labels": ["dog", "cat", "eel"]}}
    with pytest.raises(ModelUnavailable, match="in another order than the model's own: cat, dog, eel"):
        version(tmp_path, zoo.zip_map(["cat", "dog", "eel"]), settings)


@pytest.mark.parametrize(
    ("make", "settings", "says"),
    [
        (three_scores, {}, "names no prediction.output; there are y"),
        (one_number, SCORES, "name both in prediction.labels"),
        (zoo.identity("BYTES"), SCORES, "gives names, and model.yaml no prediction.labels"),
    ],
)
def test_obstacle_says_why_no_class_can_be_read(
    tmp_path: Path, make: Callable[[Path], Path], settings: Any, says: str
) -> None:
    assert says in classes(tmp_path, make, settings).no_class_reason


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ({"comparisons": [("failures", {}), ("wrong_feedback", {})]}, ["guards.comparisons[1]: wrong_feedback can"]),
        ({"comparisons": [("predicted_class", {})]}, ["guards.comparisons[0]: predicted_class can never act"]),
        (
            {"limits": ["candidate.accuracy", "candidate.error_rate"]},
            ["guards.limits[0]: candidate.accuracy can never"],
        ),
        ({"limits": ["stable.accuracy"]}, []),
        ({"while": "candidate.accuracy"}, ["split.routes[0].while[0]: candidate.accuracy is never known"]),
        ({"comparisons": [("failures", {})]}, []),
    ],
)
def test_guard_that_can_never_act_is_reported_with_its_path(release: dict[str, Any], said: list[str]) -> None:
    route: dict[str, Any] = {"name": "all", "weight": 50}
    if "while" in release:
        route["while"] = [{"metric": release["while"], "above": 0.5}]
    guards = {
        "comparisons": [{"name": metric, "metric": metric, **more} for metric, more in release.get("comparisons", ())],
        "limits": [{"name": metric, "metric": metric, "above": 0.5} for metric in release.get("limits", ())],
    }
    settings = {"stable": 1, "candidate": 2, "split": {"routes": [route]}, "guards": guards}
    found = inert_guards("m", ReleaseSettings.model_validate(settings), LACKING)
    assert len(found) == len(said)
    for problem, start in zip(found, said, strict=True):
        assert problem.startswith(f"models.m.{start}")
        assert problem.endswith("version 2: it has no classes")


def test_disagreement_comparison_needs_a_mirror() -> None:
    settings = {
        "stable": 1,
        "candidate": 2,
        "guards": {"comparisons": [{"name": "pairs", "metric": "mirror_disagreement"}]},
    }
    assert "nothing is mirrored" in inert_guards("m", ReleaseSettings.model_validate(settings), BOTH)[0]
    mirrored = ReleaseSettings.model_validate({**settings, "mirror": {"weight": 5}})
    assert inert_guards("m", mirrored, BOTH) == []


@pytest.mark.parametrize("kind", Kind)
def test_share_of_disagreements_is_known_of_every_kind_that_is_mirrored(kind: Kind) -> None:
    line = {"metric": "candidate.mirror_disagreement", "above": 0.5}
    settings = {
        "stable": 1,
        "candidate": 2,
        "guards": {"limits": [{"name": "far", **line}]},
        "split": {"routes": [{"name": "all", "weight": 5, "while": [line]}]},
    }
    outputs = {version: [Measurable(kind, "y")] for version in (1, 2)}
    found = inert_guards("m", ReleaseSettings.model_validate(settings), outputs)
    assert [problem.partition(":")[0] for problem in found] == [
        "models.m.guards.limits[0]",
        "models.m.split.routes[0].while[0]",
    ]
    assert all("nothing is mirrored" in problem for problem in found)
    mirrored = ReleaseSettings.model_validate({**settings, "mirror": {"weight": 5}})
    assert inert_guards("m", mirrored, outputs) == []


def kind(kind: Kind, **more: Any) -> Measurable:
    return Measurable(kind, "y", **more)


@pytest.mark.parametrize(
    ("comparison", "outputs", "says"),
    [
        ({"metric": "wrong_feedback"}, [kind(Kind.REGRESSION)], "needs classification or multilabel; compare loss"),
        ({"metric": "wrong_feedback"}, [kind(Kind.EMBEDDING)], "'y' is of kind embedding, and wrong_feedback needs"),
        ({"metric": "wrong_feedback"}, [kind(Kind.MULTILABEL)], ""),
        ({"metric": "predicted_class"}, [kind(Kind.MULTILABEL)], "needs classification"),
        ({"metric": "loss"}, [kind(Kind.EMBEDDING)], "needs classification or multilabel or regression or ranking"),
        ({"metric": "loss"}, [kind(Kind.RANKING)], ""),
        ({"metric": "loss"}, [kind(Kind.REGRESSION)], "give the guard a range, such as [0, 100]"),
        ({"metric": "loss"}, [kind(Kind.REGRESSION, loss_range=(0, 350))], "a range, such as [0, 350]"),
        ({"metric": "loss", "range": [0, 9]}, [kind(Kind.REGRESSION)], ""),
        ({"metric": "squared_error", "range": [0, 9]}, [kind(Kind.CLASSIFICATION)], "needs regression"),
        ({"metric": "ndcg"}, [kind(Kind.REGRESSION)], "needs ranking"),
        ({"metric": "age.loss"}, [kind(Kind.CLASSIFICATION)], "'age' is no output in prediction of model.yaml; there"),
        ({"metric": "age.loss"}, [kind(Kind.CLASSIFICATION), Measurable(Kind.REGRESSION, "age")], "give the guard"),
        ({"metric": "reward", "range": [0, 1]}, [kind(Kind.NONE, reason="none")], ""),
        ({"metric": "metrics.loss", "range": [0, 1], "direction": "increase"}, [kind(Kind.NONE, reason="none")], ""),
        ({"metric": "age.wrong"}, [kind(Kind.CLASSIFICATION), Measurable(Kind.REGRESSION, "age")], "wrong needs"),
        ({"metric": "metrics.a.loss", "range": [0, 1], "direction": "increase"}, [kind(Kind.NONE, reason="no")], ""),
        ({"metric": "predicted_value"}, [kind(Kind.REGRESSION)], "add range to its prediction in model.yaml"),
        ({"metric": "predicted_value"}, [kind(Kind.REGRESSION, loss_range=(0, 1))], ""),
        ({"metric": "predicted_value"}, [kind(Kind.CLASSIFICATION, loss_range=(0, 1))], "needs regression"),
        ({"metric": "complaints"}, [kind(Kind.NONE, reason="none")], ""),
        ({"metric": "wrong_feedback"}, [], ""),
    ],
    ids=lambda value: repr(value)[:50],
)  # fmt: skip
def test_comparison_needs_a_kind_that_has_its_outcome(comparison: dict[str, Any], outputs: Any, says: str) -> None:
    guards = {"comparisons": [{"name": "one", **comparison}]}
    settings = ReleaseSettings.model_validate({"stable": 1, "candidate": 2, "guards": guards})
    found = inert_guards("m", settings, {1: outputs, 2: outputs})
    assert len(found) == bool(says)
    assert all(says in problem and problem.startswith("models.m.guards.comparisons[0]: ") for problem in found)
