"""The analyzer finds what is planted in each kind of prediction, and nothing where nothing is."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.evidence.effect import EffectVerdict as Verdict
from gateway.offline.analysis.analyzer import Analysis, Subject, analyse
from gateway.offline.analysis.features import FeatureNames
from gateway.offline.analysis.html_report import page
from gateway.offline.analysis.json_report import document
from gateway.offline.examples import Predicting
from gateway.offline.reader import Query, records_in
from gateway.protocol.tensors import TensorSpec
from gateway.settings.model import Kind
from tests.offline.analysis import planted
from tests.recording import Recording

RAW = TensorSpec("raw", "BYTES", (-1,))


def analysed(
    recording: Recording, folder: Path, predicting: Predicting, features: FeatureNames | None = None, **more: Any
) -> Analysis:
    records = records_in(recording.save(folder / "records"))
    subject = Subject(
        records, Query(recording.model), predicting, lambda version: RAW, features or FeatureNames(), **more
    )
    return analyse(subject, lambda size: None, lambda size: None)


def worse(analysis: Analysis) -> set[tuple[str, str, str]]:
    return {(one.measure, one.dimension, one.value.split()[0]) for one in analysis.slices}


def differing(analysis: Analysis) -> set[tuple[str, str, str, str]]:
    assert analysis.comparison is not None
    return {(one.metric.name, one.dimension, one.slice, one.verdict) for one in analysis.comparison.slices}


def verdicts(analysis: Analysis) -> dict[str, str]:
    assert analysis.comparison is not None
    return {one.metric.name: one.verdict for one in analysis.comparison.effects}


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    folder = tmp_path_factory.mktemp("regression")
    return analysed(planted.regression(), folder, planted.NUMBERS, planted.DIABETES_NAMES)


def test_regression_is_worse_where_the_truths_are_off(regression: Analysis) -> None:
    assert {("mae", "bmi", "over"), ("reward", "bmi", "over")} <= worse(regression)
    assert ("mae", "customer", "acme") not in worse(regression)
    bias = next(one for one in regression.slices if (one.measure, one.dimension) == ("bias", "bmi"))
    assert (bias.than, bias.value.split()[0]) == ("lower", "over")
    assert bias.rate.value < bias.rest.value - 50


def test_candidate_is_worse_overall_and_for_the_customer_it_errs_on(regression: Analysis) -> None:
    assert verdicts(regression)["mae"] == Verdict.WORSE
    assert verdicts(regression)["metrics.revenue"] == Verdict.UNKNOWN
    assert ("mae", "customer", "globex", Verdict.WORSE) in differing(regression)
    assert not {one for one in differing(regression) if one[2] in ("acme", "initech")}
    assert "route" not in {one[1] for one in differing(regression)}, "a slice of all rows is none"


def test_metrics_of_each_version_have_intervals(regression: Analysis) -> None:
    found = {(one.version, one.metric.name): one for one in regression.versions}
    assert {name for _, name in found} == {"mae", "rmse", "bias", "reward", "metrics.revenue"}
    for version in (1, 2):
        one = found[version, "rmse"]
        value, low, high = one.metric.of(one.mean)
        assert low < value < high
        assert value > found[version, "mae"].mean.value
    assert found[1, "mae"].mean.count + found[2, "mae"].mean.count == 900


def test_residuals_are_those_of_the_slices(regression: Analysis) -> None:
    found = {(one.slice, one.version): one for one in regression.residuals}
    assert found["customer: globex", 2].mean - found["customer: globex", 1].mean == pytest.approx(-90, abs=15)
    assert found["", 1].quantiles == sorted(found["", 1].quantiles)


def test_furthest_rows_are_listed_with_their_truths(regression: Analysis) -> None:
    losses = [one.loss or 0.0 for one in regression.worst]
    assert losses == sorted(losses, reverse=True)
    assert all(one.truth is not None and one.predicted is not None for one in regression.worst)


def test_regression_without_a_flaw_has_no_slice(tmp_path: Path) -> None:
    found = analysed(planted.regression(flawed=False), tmp_path, planted.NUMBERS)
    assert found.comparison is not None
    assert (differing(found), found.comparison.tested > 50) == (set(), True)
    assert not {one for one in worse(found) if one[1] in ("customer", "version", "variant")}
    assert set(verdicts(found).values()) == {Verdict.UNKNOWN}


def test_multilabel_rows_are_judged_one_by_one(tmp_path: Path) -> None:
    found = analysed(planted.multilabel(), tmp_path, planted.TAGS)
    assert found.wrong.count == 1200
    assert ("labels_wrong", "customer", "globex", Verdict.WORSE) in differing(found)
    assert verdicts(found)["labels_wrong"] == Verdict.WORSE
    recalls = found.tallies.recalls()[planted.LABELS.index("round")]
    assert recalls[2].value < recalls[1].low
    assert {one.metric.name for one in found.versions} == {"accuracy", "labels_wrong"}
    told = json.loads(document(found))
    assert {one["class"] for one in told["recall"]} == set(planted.LABELS)
    assert told["comparison"]["units"] == 400, "the three rows of a request are one unit"


def test_ranking_is_worse_where_the_candidate_shuffles(tmp_path: Path) -> None:
    found = analysed(planted.ranking(), tmp_path, planted.LISTS)
    assert found.kind is Kind.RANKING
    assert ("ndcg", "customer", "globex", Verdict.WORSE) in differing(found)
    assert not {one for one in differing(found) if one[2] in ("acme", "initech")}
    assert {one.metric.name for one in found.versions} == {"ndcg", "mrr"}


def test_inputs_of_several_types_are_features_by_their_names(tmp_path: Path) -> None:
    found = analysed(planted.mixed(), tmp_path, Predicting(None, None, ("stays", "leaves")))
    assert ("wrong", "plan", "free") in worse(found)
    assert not {one for one in worse(found) if one[1] in ("remote", "age", "usage[0]")}
    told = json.loads(document(found))
    assert {(one["truth"], one["predicted"]) for one in told["confusion"]} == {("stays", "stays"), ("leaves", "stays")}


def test_mirrored_numbers_say_which_version_is_closer(tmp_path: Path) -> None:
    recording = Recording("diabetes")
    for stable, candidate, truth in ((10.0, 14.0, 11.0), (10.0, 14.0, 15.0), (10.0, 14.0, 13.0), (10.0, 14.0, None)):
        prediction = recording.record(predictions={"progression": [stable]})
        answer = {"outputs": [planted.tensor("progression", planted.np.array([[candidate]]))]}
        recording.mirror(prediction, agreement=False, distance=0.4, response=answer)
        if truth is not None:
            recording.feedback(prediction, truth=truth, outcomes={})
    found = analysed(recording, tmp_path, planted.NUMBERS)
    assert (found.agreement.stable_right, found.agreement.candidate_right) == (1, 2)
    assert [(one.predicted, one.other) for one in found.disagreements] == [(10.0, 14.0)]


def test_numbers_for_equal_inputs_contradict_beyond_the_tolerance(tmp_path: Path) -> None:
    recording = Recording("diabetes")
    for truth in (10.0, 10.5, 90.0, 200.0):
        row = planted.tensor("x", planted.np.array([[1.0 if truth < 50 else truth]]))
        prediction = recording.record(request={"inputs": [row]}, predictions={"progression": [12.0]})
        recording.feedback(prediction, truth=truth, outcomes={"loss": 1.0, "squared_error": 1.0, "error": 1.0})
    assert analysed(recording, tmp_path, planted.NUMBERS, tolerance=1.0).contradicted == 0
    assert analysed(recording, tmp_path, planted.NUMBERS, tolerance=0.1).contradicted == 1
    assert analysed(recording, tmp_path, planted.NUMBERS).contradicted == 0, "a tenth of the truths' deviation is 8"


def test_html_page_shows_the_comparison_and_the_errors(regression: Analysis) -> None:
    text = page(regression)
    for title in ("Is version 2 better than 1?", "Where the versions differ", "Errors, by slice and version"):
        assert f"<h2>{title}</h2>" in text
    assert "customer: globex · MAE" in text
