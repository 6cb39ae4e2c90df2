"""Measures that people know, from sums of outcomes, for each kind of prediction."""

import pytest

from gateway.records.measures import OutcomeSum, measure_names, measures, text_of

CASES = {
    "classification": ({"wrong": (8, 2.0), "loss": (8, 2.0)}, ["accuracy 75.0%"]),
    "multilabel": ({"wrong": (8, 4.0), "loss": (8, 1.0)}, ["accuracy 50.0%", "labels wrong 12.5%"]),
    "regression": (
        {"loss": (4, 164.8), "squared_error": (4, 10000.0), "error": (4, -12.4)},
        ["MAE 41.2", "RMSE 50", "bias -3.1"],
    ),
    "ranking": (
        {"reciprocal_rank": (2, 1.5), "ndcg": (2, 1.8), "loss": (2, 0.2)},
        ["NDCG 0.9", "MRR 0.75"],
    ),
    "reward and business metrics": (
        {"metrics.revenue": (3, 4500.0), "reward": (2, -1.0), "metrics.clicks": (1, 0.0)},
        ["reward -0.5", "revenue 1,500", "clicks 0"],
    ),
    "business metrics that are called as measures": (
        {"wrong": (2, 1.0), "metrics.Accuracy": (1, 3.0), "metrics.mae": (1, 4.0), "metrics.age MAE": (1, 5.0)},
        ["accuracy 50.0%", "metrics.Accuracy 3", "metrics.mae 4", "age MAE 5"],
    ),
    "complaints": ({"complaint": (12, 7.0), "wrong": (12, 7.0), "loss": (12, 7.0)}, ["accuracy 41.7%", "complaints 7"]),
    "several outputs": (
        {"wrong": (4, 1.0), "loss": (4, 1.0), "age.loss": (2, 6.0), "age.squared_error": (2, 18.0)},
        ["accuracy 75.0%", "age MAE 3", "age RMSE 3"],
    ),
    "nothing": ({"wrong": (0, 0.0)}, []),
}


@pytest.mark.parametrize(("sums", "expected"), CASES.values(), ids=CASES)
def test_measures_are_named_as_people_know_them(sums: dict[str, tuple[int, float]], expected: list[str]) -> None:
    found = measures({name: OutcomeSum(*one) for name, one in sums.items()})
    assert [text_of(one) for one in found] == expected


def test_measure_names_the_outcome_that_it_is_computed_from() -> None:
    (accuracy,) = measures({"wrong": OutcomeSum(8, 2.0)})
    assert (accuracy.shown.name, accuracy.outcome, accuracy.count, accuracy.total) == ("accuracy", "wrong", 8, 2.0)
    assert accuracy.shown.higher_is_better
    (mae, _) = measures({"age.loss": OutcomeSum(2, 6.0), "age.squared_error": OutcomeSum(2, 18.0)})
    assert (mae.shown.name, mae.shown.label, mae.outcome) == ("age.mae", "age MAE", "age.loss")
    assert mae.shown.higher_is_better is False


def test_business_metric_that_is_called_as_what_the_gateway_counts_keeps_its_prefix() -> None:
    found = measure_names({"metrics.failures": None, "metrics.revenue": None})
    assert [one.label for one in found.values()] == ["metrics.failures", "revenue"]
