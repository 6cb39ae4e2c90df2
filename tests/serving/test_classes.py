"""Which class a model has predicted, and which one a client means: real models, loaded as the gateway does."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.serving.classes import MOST_CLASSES, NO_CLASS, Classes
from gateway.serving.version import ModelVersion, load_version
from gateway.settings.model_settings import ModelSettings
from gateway.shm.scoreboard import Tally
from tests import zoo
from tests.serving.onnx_models import FLOAT, save

SCORES = {"prediction": {"output": "y"}}
NAMED = {"prediction": {"output": "y", "labels": ["cat", "dog", "eel"]}}
DIGITS = {"prediction": {"output": "y", "labels": ["3", "5", "7"]}}


def version(folder: Path, make: Callable[[Path], Path], settings: Any) -> ModelVersion:
    file = folder / "m" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    loaded = load_version(make(file), ModelSettings.model_validate(settings), folder / "m" / "warmup.json")

    async def on_a_loop() -> ModelVersion:
        return ModelVersion("m", 1, loaded, Tally())

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
    return served.classes.predicted(served.loaded.session.run({"x": np.array(x, dtype)}))


def test_the_highest_score_of_each_row_is_its_class(tmp_path: Path) -> None:
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


def test_a_regression_predicts_no_class(tmp_path: Path) -> None:
    served = version(tmp_path, one_number, SCORES)
    assert predicted(served, [[0.7]]) == []


def test_a_vector_of_numbers_is_a_regression_too(tmp_path: Path) -> None:
    def make(path: Path) -> Path:
        node = zoo.helper.make_node("Identity", ["x"], ["y"])
        return save(path, [node], {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])})

    assert predicted(version(tmp_path, make, SCORES), [0.7, 0.1]) == []


def test_an_output_of_label_numbers_is_taken_at_its_word(tmp_path: Path) -> None:
    served = version(tmp_path, zoo.identity("INT64"), DIGITS)
    assert predicted(served, [[5], [3], [7], [4]], np.int64) == [1, 0, 2, NO_CLASS]


def test_label_numbers_without_names_are_classes_themselves(tmp_path: Path) -> None:
    served = version(tmp_path, zoo.identity("INT64"), SCORES)
    assert predicted(served, [[5], [0], [-1]], np.int64) == [5, 0, NO_CLASS]


def test_an_output_of_names_is_looked_up(tmp_path: Path) -> None:
    served = version(tmp_path, zoo.identity("BYTES"), NAMED)
    assert predicted(served, [["dog"], ["eel"], ["cow"]], object) == [1, 2, NO_CLASS]


@pytest.mark.parametrize(
    ("labels", "names"), [([3, 5, 7], ("3", "5", "7")), (["cat", "dog", "eel"], ("cat", "dog", "eel"))]
)
def test_a_zip_map_names_its_classes_itself(tmp_path: Path, labels: list[Any], names: tuple[str, ...]) -> None:
    served = version(tmp_path, zoo.zip_map(labels), {})
    assert served.classes.labels == names
    (spec,) = served.signature.inputs
    rows = np.array([[5, 0, 0], [0, 0, 5]], np.float32)
    assert served.classes.predicted(served.loaded.session.run({spec.name: rows})) == [0, 2]


def test_a_label_output_beside_a_zip_map_may_be_named_instead(tmp_path: Path) -> None:
    settings = {"prediction": {"output": "output_label", "labels": ["3", "5", "7"]}}
    served = version(tmp_path, zoo.zip_map([3, 5, 7]), settings)
    (spec,) = served.signature.inputs
    rows = np.array([[0, 5, 0], [0, 0, 5]], np.float32)
    assert served.classes.predicted(served.loaded.session.run({spec.name: rows})) == [1, 2]


@pytest.mark.parametrize(
    ("truth", "index"),
    [("dog", 1), ("eel", 2), (0, 0), (2, 2), (1.0, 1), ("cow", None), ("Dog", None), ("", None), (3, None), (-1, None)],
)
def test_truth_by_name_or_index(tmp_path: Path, truth: object, index: int | None) -> None:
    assert classes(tmp_path).index_of(truth) == index


@pytest.mark.parametrize(
    ("truth", "index"), [("3", 0), ("7", 2), (3, 0), (5.0, 1), (7, 2), (1, None), (0, None), (4, None), ("4", None)]
)
def test_truth_by_the_number_that_is_the_name(tmp_path: Path, truth: object, index: int | None) -> None:
    """3 is the class "3". Where names are numbers, one that is no name is a mistake, not the class at that place."""
    assert classes(tmp_path, settings=DIGITS).index_of(truth) == index


def test_truth_without_names_is_an_index(tmp_path: Path) -> None:
    found = classes(tmp_path, settings=SCORES)
    assert found.index_of(2) == 2
    assert found.index_of("2") == 2, "as a file of truths has it"
    assert (found.index_of(3), found.index_of("3"), found.index_of(1_000_000)) == (None, None, None)
    assert [found.index_of(text) for text in ("-1", "2.0", " 2", "two", "²", "")] == [None] * 6


@pytest.mark.parametrize(
    "truth",
    [1.5, float("nan"), float("inf"), -float("inf"), MOST_CLASSES + 1, 2**63, 1e300, None, [], [1], {}, {"a": 1}, b"1"],
    ids=repr,
)
def test_what_can_be_no_class_is_none(tmp_path: Path, truth: object) -> None:
    assert classes(tmp_path).index_of(truth) is None


def test_truth_may_be_yes_or_no(tmp_path: Path) -> None:
    found = classes(tmp_path, settings={"prediction": {"output": "y", "labels": ["false", "true", "maybe"]}})
    assert (found.index_of(True), found.index_of(False)) == (1, 0)


def test_yes_is_not_class_1_where_no_class_is_called_so(tmp_path: Path) -> None:
    assert classes(tmp_path).index_of(True) is None
