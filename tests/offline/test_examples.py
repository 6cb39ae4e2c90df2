"""The rows of a recorded prediction, of each kind, by what the record and the feedback on it say."""

from typing import Any

import pytest

from gateway.offline.examples import Example, Predicting, examples_of
from gateway.offline.merged_feedback import merge_feedback
from gateway.protocol.decode import decode_outputs
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind
from tests.offline.test_feedback_store import feedback_record

LABELS = ("red", "round", "soft")


def rows_of(predicting: Predicting, *feedback: dict[str, Any], output: Any = None, **fields: Any) -> list[Example]:
    """`output`: a list of rows of the output `y`."""
    prediction = Prediction(
        prediction_id="p", time_ns=1, model="m", version=1, variant="stable", outcome="ok", **fields
    )
    outputs = []
    if output is not None:
        flat = [one for row in output for one in (row if isinstance(row, list) else [row])]
        shape = [len(output), len(flat) // len(output)]
        document = {"outputs": [{"name": "y", "shape": shape, "datatype": "FP64", "data": flat}]}
        outputs = list(decode_outputs(document, None))
    records = [feedback_record(index, **one) for index, one in enumerate(feedback)]
    return examples_of(prediction, merge_feedback(records), outputs, predicting)


@pytest.mark.parametrize("recorded", [True, False])
def test_numbers_are_judged_by_row(recorded: bool) -> None:
    """An earlier release recorded the response, but not what it predicts."""
    said: dict[str, Any] = {"predictions": {"y": [1.0, 2.0, 3.0]}} if recorded else {"output": [1.0, 2.0, 3.0]}
    found = rows_of(Predicting("y", Kind.REGRESSION), {"truth": [1.5, None, 1], "outcomes": {"loss": 1.25}}, **said)
    assert [one.predicted for one in found] == [1.0, 2.0, 3.0]
    assert [one.outcomes.get("error") for one in found] == [-0.5, None, 2.0]
    assert [one.outcomes.get("loss") for one in found] == [0.5, None, 2.0]


def test_outcomes_of_a_single_row_are_the_recorded_ones() -> None:
    (one,) = rows_of(Predicting("y", Kind.REGRESSION), {"truth": 3.0, "outcomes": {"loss": 7.0, "age.loss": 2.0}},
                     predictions={"y": [1.0]})  # fmt: skip
    assert (one.outcomes["loss"], one.outcomes["age.loss"], one.outcomes["error"]) == (7.0, 2.0, -2.0)


def test_classes_are_judged_by_row() -> None:
    found = rows_of(
        Predicting("y", None, ("cat", "dog")),
        {"truth": ["cat", "dog", None], "truth_class": [0, 1, None], "correct": [True, False, None], "outcomes": {}},
        predictions={"y": [0, 0, None]},
    )
    assert [one.kind for one in found] == [Kind.CLASSIFICATION] * 3
    assert [one.outcomes for one in found] == [{"wrong": 0.0, "loss": 0.0}, {"wrong": 1.0, "loss": 1.0}, {}]
    assert [one.truth_class for one in found] == [0, 1, None]


def test_labels_are_names_or_indices() -> None:
    found = rows_of(
        Predicting("y", Kind.MULTILABEL, LABELS),
        {"truth": [["red", "soft"], [1], []], "outcomes": {}},
        output=[[0.9, 0.1, 0.2], [0.1, 0.7, 0.2], [0.1, 0.1, 0.2]],
    )
    assert [one.predicted for one in found] == [[0], [1], []]
    assert [one.outcomes["wrong"] for one in found] == [1.0, 0.0, 0.0]
    assert found[0].outcomes["loss"] == pytest.approx(1 / 3)
    assert found[0].true_labels == {0, 2}


def test_one_rows_labels_are_one_truth_and_a_list_of_them_is_one_row() -> None:
    for truth in (["red", "soft"], [["red", "soft"]]):
        predicting = Predicting("y", Kind.MULTILABEL, LABELS)
        (one,) = rows_of(predicting, {"truth": truth, "outcomes": {}}, predictions={"y": [[0, 2]]})
        assert one.outcomes == {"wrong": 0.0, "loss": 0.0}


def test_column_of_scores_is_one_ranked_list() -> None:
    (one,) = rows_of(Predicting("y", Kind.RANKING), {"truth": 2, "outcomes": {}}, output=[0.1, 0.9, 0.4])
    assert one.predicted == 3
    assert one.outcomes["reciprocal_rank"] == 0.5
    assert one.outcomes["ndcg"] == pytest.approx(0.63093, abs=1e-5)
    (none,) = rows_of(Predicting("y", Kind.RANKING), {"truth": 4, "outcomes": {}}, output=[0.1, 0.9, 0.4])
    assert none.outcomes == {}, "position 4 of 3"


def test_feedback_on_single_rows_adds_up() -> None:
    predicting = Predicting("y", Kind.REGRESSION)
    found = rows_of(
        predicting,
        {"row": 2, "truth": 5.0, "reward": 1.0, "outcomes": {"loss": 2.0}},
        {"row": 0, "truth": 1.0, "metrics": {"paid": 3.0}, "outcomes": {"loss": 0.0}},
        {"row": 2, "truth": 4.0, "outcomes": {"loss": 1.0}},
        predictions={"y": [1.0, 2.0, 3.0]},
    )
    assert [one.outcomes.get("loss") for one in found] == [0.0, None, 1.0]
    assert [one.outcomes.get("reward") for one in found] == [None, None, 1.0]
    assert [one.outcomes.get("metrics.paid") for one in found] == [3.0, None, None]


def test_reward_of_the_request_is_that_of_each_row() -> None:
    found = rows_of(Predicting("y", Kind.REGRESSION), {"reward": 0.5, "metrics": {"paid": [1, None]}, "outcomes": {}},
                    predictions={"y": [1.0, 2.0]})  # fmt: skip
    assert [one.outcomes for one in found] == [{"reward": 0.5, "metrics.paid": 1.0}, {"reward": 0.5}]


def test_truth_of_several_outputs_is_that_of_the_main_one() -> None:
    (one,) = rows_of(
        Predicting("y", Kind.REGRESSION),
        {"truth": {"y": 3.0, "age": 4}, "outcomes": {"age.loss": 1.0}},
        predictions={"y": [1.0], "age": [5.0]},
    )
    assert (one.outcomes["loss"], one.outcomes["age.loss"]) == (2.0, 1.0)


def test_names_of_what_is_predicted() -> None:
    predicting = Predicting("y", None, LABELS)
    assert [predicting.name_of(one) for one in (1, 7, None, 2.5, [2, 0], [])] == [
        "round", "7", "-", "2.5", "red, soft", "(none)",
    ]  # fmt: skip
