"""Output shapes are learned from runs, whatever the file declares."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.backends.output_shapes import ObservedRun, observed_specs
from gateway.protocol.tensors import TensorSpec
from tests import zoo
from tests.backends.labelling import FLOAT, INT64, LINEAR, WEIGHTS, forest, model, node
from tests.backends.test_warmup import loaded, sample

W = {"w": WEIGHTS}


def shapes(folder: Path, make: Any) -> list[tuple[int, ...]]:
    folder.mkdir(exist_ok=True)
    return [spec.shape for spec in loaded(folder, make).session.signature.outputs]


@pytest.mark.parametrize(
    ("label", "scores"),
    [(["n"], ["n", 3]), ([1], ["n", 3]), ([1], [1, 3]), (None, None), ([1], [None, None]), ([4], [4, 3])],
)
def test_label_output_declared_as_one_row_has_a_free_first_dimension(tmp_path: Path, label: Any, scores: Any) -> None:
    version = loaded(tmp_path, forest(label, scores))
    first, second = (spec.shape for spec in version.session.signature.outputs)
    assert first == (-1,)
    assert second in ((-1, 3), (-1, -1))
    assert version.warm_up.unbatchable_reason == ""
    assert version.rules.max_rows > 1


@pytest.mark.parametrize(
    ("declared", "keepdims", "shape"),
    [
        (["n"], 1, (-1, 1)),
        (["n", 1], 0, (-1,)),
        ([1, 1], 1, (-1, 1)),
        ([], 0, (-1,)),
        (None, 1, (-1, 1)),
        ([7], 0, (-1,)),
    ],
)
def test_wrongly_declared_rank_is_corrected(
    tmp_path: Path, declared: Any, keepdims: int, shape: tuple[int, ...]
) -> None:
    nodes = [*LINEAR, node("ArgMax", "scores", "label", axis=1, keepdims=keepdims)]
    assert shapes(tmp_path, model(nodes, W, outputs={"label": (INT64, declared)})) == [shape]


def test_rightly_declared_shape_is_kept(tmp_path: Path) -> None:
    assert shapes(tmp_path, model(LINEAR, W, outputs={"scores": (FLOAT, ["n", 5])})) == [(-1, 5)]
    assert shapes(tmp_path / "b", zoo.fixed) == [(2, 3)]
    assert shapes(tmp_path / "c", zoo.recurrent) == [(-1, 4), (2, -1, 4)]
    assert shapes(tmp_path / "d", zoo.total) == [()]


def test_output_shapes_are_learned_from_a_single_row_too(tmp_path: Path) -> None:
    sample(tmp_path, [1, 8], range(8))
    (label, scores) = shapes(tmp_path, forest([1], [1, 3]))
    assert (label, scores) == ((-1,), (-1, 3))


def test_dimension_that_depends_on_values_stays_free(tmp_path: Path) -> None:
    nodes = [node("NonZero", "x", "places"), node("Transpose", "places", "label", perm=[1, 0])]
    ((count, _),) = shapes(tmp_path, model(nodes, outputs={"label": (INT64, None)}))
    assert count == -1


X = TensorSpec("y", "FP32", (1,))


def runs(*shapes: tuple[int, ...]) -> list[ObservedRun]:
    """Runs of one row each, the last one of three."""
    return [ObservedRun(3 if index == len(shapes) - 1 else 1, [np.zeros(shape)]) for index, shape in enumerate(shapes)]


@pytest.mark.parametrize(
    ("declared", "seen", "fixed", "shape"),
    [
        ((1,), [(1,), (1,), (3,)], True, (-1,)),
        ((1,), [(1,), (1,), (1,)], True, (1,)),  # one, however many rows
        ((), [(1, 4), (1, 4), (3, 4)], True, (-1, 4)),
        ((), [(1, 4), (1, 4), (3, 4)], False, (-1, -1)),  # it may follow another free dimension
        ((), [(1, 4), (1, 5), (3, 5)], True, (-1, -1)),
        ((), [(0, 4), (0, 4), (0, 4)], True, (-1, -1)),  # found boxes: none so far
        ((1, 4), [(1, 0), (1, 0), (3, 0)], True, (-1, -1)),
        ((2, 4), [(2, 1, 4), (2, 1, 4), (2, 3, 4)], True, (-1, -1, -1)),
        ((2, 1, 4), [(2, 1, 4), (2, 1, 4), (2, 3, 4)], True, (2, -1, 4)),
        ((1, 3), [(1, 3), (1, 3), (3, 4)], True, (-1, -1)),
        ((-1, 3), [(1, 5), (1, 5), (3, 5)], True, (-1, 5)),
        ((-1, -1), [(1, 5), (1, 5), (3, 5)], True, (-1, -1)),
        ((1,), [(1,), (1, 1), (3,)], True, (1,)),  # a rank that varies says nothing
        ((1,), [(), (), ()], True, ()),
    ],
)
def test_learned_shape_agrees_with_all_runs(
    declared: tuple[int, ...], seen: list[tuple[int, ...]], fixed: bool, shape: tuple[int, ...]
) -> None:
    (spec,) = observed_specs([TensorSpec("y", "FP32", declared)], runs(*seen), fixed=fixed)
    assert spec == TensorSpec("y", "FP32", shape)


def test_output_missing_from_the_runs_keeps_its_declared_shape() -> None:
    assert observed_specs([X], [ObservedRun(1, [None]), ObservedRun(3, [None])], fixed=True) == [X]
