"""model.yaml: one prediction or several, and which settings go with which kind."""

from typing import Any

import pytest

from gateway.errors import SettingsError
from gateway.settings.load import parse
from gateway.settings.model import MAX_DECLARED, MAX_PREDICTIONS, ModelSettings


def model(text: str) -> ModelSettings:
    return parse(text, ModelSettings, "model.yaml")


def test_one_prediction_is_a_list_of_one() -> None:
    one, listed = model("prediction: {output: y, labels: [a, b]}"), model("prediction: [{output: y, labels: [a, b]}]")
    assert one == listed
    assert one.main_prediction is not None
    assert (one.main_prediction.output, one.main_prediction.labels) == ("y", ("a", "b"))


@pytest.mark.parametrize("text", ["", "prediction:", "prediction: []"])
def test_no_prediction_has_no_main_one(text: str) -> None:
    assert model(text).main_prediction is None


@pytest.mark.parametrize(
    ("prediction", "says"),
    [
        ("{output: y, unit: kg}", "unit goes with kind: regression, and the kind is not given"),
        ("{output: y, kind: ranking, range: [0, 1]}", "range goes with kind: regression, and the kind is ranking"),
        ("{output: y, kind: embedding, tolerance: 1}", "tolerance goes with kind: regression"),
        ("{output: y, kind: regression, cosine: 0.9}", "cosine goes with kind: embedding"),
        ("{output: y, threshold: 0.4}", "threshold goes with kind: multilabel"),
        ("{output: y, kind: regression, labels: [a, b]}", "labels goes with kind: classification or kind: multilabel"),
        ("{output: y, kind: regresion}", "prediction.kind: must be 'classification', 'multilabel', 'regression'"),
        (
            "{output: y, kind: regression, range: [2, 1]}",
            "prediction.range: a range is two numbers, the lower one first",
        ),
        ("{output: y, kind: embedding, cosine: 2}", "prediction.cosine"),
        ("{output: y, label: [a]}", "prediction.label: unknown key 'label'; did you mean 'labels'?"),
        ("[{output: y}, {output: z, label: [a]}]", "prediction[1].label: unknown key 'label'; did you mean 'labels'?"),
        ("[{output: y}, {output: y}]", "prediction: output 'y' is given twice"),
        ("[{output: y}, {output: metrics}]", "output 'metrics' cannot be any but the first"),
        (f"[{', '.join(f'{{output: y{n}}}' for n in range(MAX_PREDICTIONS + 1))}]", f"at most {MAX_PREDICTIONS} can"),
    ],
)
def test_setting_that_does_not_go_with_the_kind_is_refused(prediction: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        model(f"prediction: {prediction}")
    assert says in str(raised.value)


@pytest.mark.parametrize("features", ["[a, b, a]", "{x: [a, a]}"])
def test_column_that_is_named_twice_is_refused(features: str) -> None:
    with pytest.raises(SettingsError, match="features: 'a' is given twice"):
        model(f"features: {features}")


@pytest.mark.parametrize(
    ("settings", "bounds"),
    [
        ({"labels": ["a", "b"]}, (0, 1)),
        ({"kind": "ranking"}, (0, 1)),
        ({"kind": "regression", "range": [-50, 300]}, (0, 350)),
        ({"kind": "regression"}, None),
    ],
)
def test_loss_range_is_as_wide_as_the_range(settings: dict[str, Any], bounds: tuple[float, float] | None) -> None:
    main = ModelSettings.model_validate({"prediction": {"output": "y", **settings}}).main_prediction
    assert main is not None
    assert main.loss_range == bounds


def test_the_first_business_metrics_that_are_declared_always_count() -> None:
    names = [f"m{number}" for number in range(MAX_DECLARED + 1)]
    settings = model(f"feedback: {{metrics: {{{', '.join(f'{name}: [0, 1]' for name in names)}}}}}")
    assert settings.declared_metrics == {f"metrics.{name}" for name in names[:-1]}
    assert settings.feedback.metrics[names[-1]] == (0, 1), "more of them have a range, as in releases before"
