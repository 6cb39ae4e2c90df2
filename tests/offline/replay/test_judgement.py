"""Two answers compared by what they predict: numbers, labels, ranked lists and vectors."""

from typing import Any

import numpy as np
import pytest

from gateway.offline.examples import Predicting
from gateway.offline.merged_feedback import StoredFeedback, merge_feedback
from gateway.offline.replay.judgement import Agreeing, Judgement, cosine
from gateway.offline.replay.runner import Rerun
from gateway.protocol.tensors import Tensor
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind
from tests.offline.test_feedback_store import feedback_record


def judged(agreeing: Agreeing, then: Any, now: Any, **feedback: Any) -> Judgement:
    """`then`, `now`: the recorded and the replayed output `y`."""
    array = np.array(then, np.float64)
    output = {"name": "y", "shape": list(array.shape), "datatype": "FP64", "data": array.ravel().tolist()}
    prediction = Prediction(
        prediction_id="p", time_ns=1, model="m", version=1, variant="stable", outcome="ok",
        response={"outputs": [output]},
    )  # fmt: skip
    said = merge_feedback([feedback_record(1, outcomes={}, **feedback)]) if feedback else StoredFeedback()
    found = Judgement()
    found.add(Rerun(prediction, said, [Tensor("y", "FP64", np.array(now, np.float64))], None), agreeing)
    return found


def test_numbers_agree_within_the_tolerance() -> None:
    predicting = Predicting("y", Kind.REGRESSION)
    found = judged(Agreeing(predicting, 0.5), [[1.0], [2.0], [3.0]], [[1.4], [2.6], [3.0]], truth=[1.4, 2.0, None])
    assert (found.agreed, found.compared, found.labelled) == (2, 3, 2)
    assert (found.fixed, found.regressed) == (1, 1)
    assert found.mean_losses == (pytest.approx(0.2), pytest.approx(0.3))
    relative = judged(Agreeing(predicting), [[100.0], [100.0]], [[100.9], [101.1]])
    assert relative.agreed == 1, "within 1% of the recorded number"


def test_labels_agree_if_all_do() -> None:
    predicting = Predicting("y", Kind.MULTILABEL, ("a", "b"))
    found = judged(Agreeing(predicting), [[0.9, 0.1], [0.9, 0.9]], [[0.8, 0.2], [0.9, 0.1]], truth=[["a"], ["a"]])
    assert (found.agreed, found.compared) == (1, 2)
    assert (found.right_then, found.right_now, found.fixed) == (1, 2, 1)
    assert found.mean_losses == (0.25, 0.0)


def test_classes_of_several_rows_are_compared_by_row() -> None:
    predicting = Predicting("y", None, ("a", "b"))
    scores = [[0.9, 0.1], [0.9, 0.1]], [[0.8, 0.2], [0.2, 0.8]]
    found = judged(Agreeing(predicting), *scores, truth=["a", "b"], truth_class=[0, 1], correct=[True, False])
    assert (found.agreed, found.compared, found.right_then, found.right_now) == (1, 2, 1, 2)


def test_ranked_lists_agree_in_the_same_order() -> None:
    agreeing = Agreeing(Predicting("y", Kind.RANKING))
    assert judged(agreeing, [[0.1], [0.9], [0.5]], [[1.0], [9.0], [5.0]]).agreement.value == 1
    assert judged(agreeing, [[0.1], [0.9], [0.5]], [[1.0], [5.0], [9.0]]).agreement.value == 0


def test_vectors_agree_by_their_cosine() -> None:
    agreeing = Agreeing(Predicting("y", Kind.EMBEDDING))
    found = judged(agreeing, [[1.0, 0.0], [0.0, 1.0]], [[5.0, 0.1], [1.0, 1.0]])
    assert (found.agreed, found.compared) == (1, 2)
    assert found.least == pytest.approx(0.7071, abs=1e-4)
    assert cosine(np.zeros(2), np.zeros(2)) == 1.0
    assert cosine(np.zeros(2), np.ones(2)) == 0.0
    assert cosine(np.array([np.nan, 1.0]), np.ones(2)) == -1.0
