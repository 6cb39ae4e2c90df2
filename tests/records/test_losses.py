"""The outcomes of a request by kind, against values worked out by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from gateway.records import losses


def test_classification_is_the_share_of_wrong_rows() -> None:
    assert losses.classification([True, False, True, True]) == {"wrong": 0.25, "loss": 0.25}
    assert losses.classification([True]) == {"wrong": 0, "loss": 0}


def test_multilabel_counts_rows_and_labels() -> None:
    ours = [frozenset({0, 2}), frozenset[int](), frozenset({1})]
    truths = [frozenset({0, 1}), frozenset[int](), frozenset({1, 3})]
    found = losses.multilabel(ours, truths, 4)
    assert found == pytest.approx({"wrong": 2 / 3, "loss": 3 / 12})
    as_flags = [[[label in row for label in range(4)] for row in rows] for rows in (truths, ours)]
    assert found["loss"] == pytest.approx(metrics.hamming_loss(*map(np.array, as_flags)))


def test_regression_gives_absolute_squared_and_signed_error() -> None:
    ours, truths = [1.0, 5.0, -2.0], [2.0, 3.0, -2.0]
    assert losses.regression(ours, truths) == pytest.approx({"loss": 1, "squared_error": 5 / 3, "error": 1 / 3})
    assert losses.regression(ours, truths)["loss"] == pytest.approx(metrics.mean_absolute_error(truths, ours))


@pytest.mark.parametrize("clicked", [[1], [3], [1, 3], [2, 5, 6], [1, 2, 3]])
def test_ranking_is_scikit_learn_s_ndcg(clicked: list[int]) -> None:
    length = 8
    relevance = [[float(place in clicked) for place in range(1, length + 1)]]
    shown = [[float(length - place) for place in range(length)]]
    found = losses.ranking([clicked])
    assert found["ndcg"] == pytest.approx(metrics.ndcg_score(relevance, shown))
    assert found["loss"] == pytest.approx(1 - found["ndcg"])
    assert found["reciprocal_rank"] == pytest.approx(
        metrics.label_ranking_average_precision_score(
            [[float(place == min(clicked)) for place in range(1, length + 1)]], shown
        )
    )


def test_list_without_a_click_has_the_greatest_loss() -> None:
    assert losses.ranking([[]]) == {"loss": 1, "ndcg": 0, "reciprocal_rank": 0}
    assert losses.ranking([[], [1]]) == {"loss": 0.5, "ndcg": 0.5, "reciprocal_rank": 0.5}
