"""The analyzer finds the flaws planted in a recording, and none in one without."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gateway.errors import GatewayError
from gateway.offline.analysis.analyzer import Analysis, Subject, analyse
from gateway.offline.analysis.dimensions import dimensions_of
from gateway.offline.analysis.html_report import page
from gateway.offline.analysis.json_report import document
from gateway.offline.analysis.slices import Measure
from gateway.offline.analysis.table import ExampleTable, Row
from gateway.offline.analysis.terminal_report import MAX_SHOWN, tables
from gateway.offline.examples import Predicting
from gateway.offline.reader import Query, records_in
from tests.offline.analysis import flawed
from tests.recording import Recording, json_request, loaded


def analysed(recording: Recording, folder: Path, **query: Any) -> Analysis:
    records = records_in(recording.save(folder / "records"))
    settings = loaded(recording.model, 1).settings
    assert settings.main_prediction is not None
    (spec,) = loaded(recording.model, 1).session.signature.inputs
    predicting = Predicting(settings.main_prediction.output, None, settings.main_prediction.labels)
    subject = Subject(records, Query(recording.model, **query), predicting, lambda version: spec)
    return analyse(subject, lambda size: None, lambda size: None)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analysed(flawed.digits(), tmp_path_factory.mktemp("digits"))


def test_analysis_finds_the_slices_that_do_worse(digits: Analysis) -> None:
    found = {(one.measure, one.dimension, one.value) for one in digits.slices}
    assert {(Measure.WRONG, "customer", "blurry"), (Measure.RESCUED, "route", "eu-images")} <= found
    assert not {(Measure.WRONG, "customer", "acme"), (Measure.RESCUED, "customer", "acme")} & found
    worst = next(one for one in digits.slices if one.value == "blurry")
    assert worst.rate.low > worst.rest.high
    assert worst.p_value <= worst.q_value < 0.001


def test_analysis_counts_agree(digits: Analysis) -> None:
    assert (digits.rows, digits.wrong.count, digits.rescued.count) == (403, 243, 200)
    assert digits.rescued.hits == 25
    confusion = digits.tallies.confusion
    assert sum(confusion.values()) == digits.wrong.count
    assert sum(count for (truth, guess), count in confusion.items() if truth != guess) == digits.wrong.hits
    assert sum(digits.tallies.confidence.values()) == digits.wrong.count


def test_analysis_lists_contradicting_labels_and_their_customers(digits: Analysis) -> None:
    (conflict,) = digits.conflicts
    given = {(one.label.truth, one.label.customer) for one in conflict.labels}
    assert given >= {(3, "acme"), (5, "globex"), (5, "blurry")}
    assert len(conflict.input.picture) == 8
    assert digits.contradicted == 1


def test_two_truths_for_one_prediction_are_a_conflict(tmp_path: Path) -> None:
    recording = Recording("tickets")
    prediction = recording.predict(json_request("tickets", np.array([["where is it?"]], object)))
    for truth, truth_class, who in (("billing", 1, "a"), (1, 1, "b"), ("returns", 2, "c")):
        recording.feedback(prediction, truth=truth, truth_class=truth_class, customer=who)
    (conflict,) = analysed(recording, tmp_path).conflicts
    assert conflict.input.text == "where is it?"
    assert [(one.label.truth, one.label.customer) for one in conflict.labels] == [(1, "b"), ("returns", "c")]


def test_two_truths_for_one_row_are_a_conflict_of_its_input_only(tmp_path: Path) -> None:
    recording = Recording("tickets")
    prediction = recording.predict(json_request("tickets", np.array([["one"], ["two"], ["three"]], object)))
    for row, truth in ((1, 1), (2, 0), (1, 2), (0, 0)):
        recording.judge(prediction, truth, row=row, outcomes={})
    recording.feedback(
        prediction, truth=[0, None, 0], truth_class=[0, None, 0], correct=[True, None, True], outcomes={}
    )
    analysis = analysed(recording, tmp_path)
    (conflict,) = analysis.conflicts
    assert (conflict.input.text, [one.label.truth for one in conflict.labels]) == ("two", [1, 2])
    assert analysis.tallies.wrong.count == 3


def test_equal_inputs_are_recognised_by_hash_where_not_recorded(tmp_path: Path) -> None:
    recording = Recording()
    for truth, sha256 in ((1, "aa"), (2, "aa"), (3, "bb")):
        recording.judge(recording.record(request=None, request_sha256=sha256, predicted=1), truth)
    (conflict,) = analysed(recording, tmp_path).conflicts
    assert [one.label.truth for one in conflict.labels] == [1, 2]


def test_least_confident_rows_are_unlabelled_and_distinct(digits: Analysis) -> None:
    margins = [doubt.margin for doubt in digits.least_confident]
    assert len(margins) == 20
    assert all(margin is not None for margin in margins)
    assert margins == sorted(margins, key=lambda margin: margin or 0.0)
    assert all(int(doubt.prediction_id[1:]) % 5 in (4, 0) for doubt in digits.least_confident)  # 3 of 5 are labelled
    assert len({str(doubt.input) for doubt in digits.least_confident}) == 20


def test_analysis_lists_disagreements_of_the_candidate(digits: Analysis) -> None:
    assert digits.agreement.same.count == 80
    assert len(digits.disagreements) == min(20, 80 - digits.agreement.same.hits)
    assert all(doubt.other is not None and doubt.other != doubt.predicted for doubt in digits.disagreements)


def test_agreement_counts_which_version_was_right(tmp_path: Path) -> None:
    recording = Recording()
    for stable, candidate, truth in ((1, 2, 1), (1, 2, 2), (1, 2, 2), (1, 2, 7), (3, 3, 3)):
        prediction = recording.record(predicted=stable)
        recording.mirror(prediction, predicted=candidate, agreement=stable == candidate)
        recording.judge(prediction, truth)
    agreement = analysed(recording, tmp_path).agreement
    assert (agreement.stable_right, agreement.candidate_right, agreement.neither_right) == (1, 2, 1)
    assert (agreement.same.hits, agreement.same.count) == (1, 5)


def test_analysis_finds_the_feature_that_correlates_with_errors(tmp_path: Path) -> None:
    worst = analysed(flawed.tumors(), tmp_path).slices[0]
    assert (worst.measure, worst.rate.value > 0.9) == (Measure.WRONG, True)
    found = {(one.dimension, one.value.split()[0]) for one in analysed(flawed.tumors(), tmp_path).slices}
    assert ("features[0]", "over") in found


def row(unit: int, **fields: Any) -> Row:
    defaults: dict[str, Any] = {"key": unit, "version": 1, "candidate": False, "chance": 0.5, "parts": {}}
    return Row(unit=unit, **{**defaults, "features": {}, "outcomes": {}, **fields})


def test_missing_feature_values_are_a_slice() -> None:
    table = ExampleTable()
    for number in range(100):
        table.add(row(number, features={"age": np.nan if number % 4 == 0 else float(number)}))
    (dimension,) = dimensions_of(table.columns())
    assert dimension.values[-1] == "missing"
    assert (dimension.codes == len(dimension.values) - 1).tolist() == [number % 4 == 0 for number in range(100)]


def test_analysis_without_a_flaw_finds_no_slice(tmp_path: Path) -> None:
    recording = Recording()
    generator = np.random.default_rng(3)
    for number in range(600):
        prediction = recording.record(customer=f"c{number % 20}", predicted=int(generator.integers(10)))
        recording.judge(prediction, prediction["predicted"] if generator.random() < 0.9 else 99)
    analysis = analysed(recording, tmp_path)
    assert (analysis.slices, analysis.tested > 25) == ([], True)


def test_analysis_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="no recorded prediction of 'digits'"):
        analysed(flawed.digits(4), tmp_path, variant="pinned")


def test_json_document_of_an_analysis(digits: Analysis) -> None:
    found = json.loads(document(digits))
    assert found["slices_tested"] == digits.tested
    assert {one["value"] for one in found["slices"]} >= {"blurry", "eu-images"}
    assert found["wrong"]["count"] == 243
    assert {one["customer"] for one in found["conflicts"][0]["labels"]} == {"acme", "globex", "blurry"}


def test_terminal_tables_of_an_analysis(digits: Analysis) -> None:
    console = Console(width=150, file=io.StringIO(), record=True)
    for table in tables(digits):
        console.print(table)
    text = console.export_text()
    assert "customer: blurry" in text
    assert "Least confident" in text


def test_table_of_rows_to_label_fits_a_narrow_terminal(digits: Analysis) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(list(tables(digits))[-2])
    lines = console.export_text().splitlines()
    assert {"prediction", "customer", "predicted", "margin", "candidate", "input"} <= set(lines[2].split())
    assert sum(line.startswith("│") for line in lines) == MAX_SHOWN


def test_html_page_is_self_contained_and_escapes_text(tmp_path: Path) -> None:
    recording = flawed.digits(60)
    hostile = recording.predict(
        json_request("digits", np.zeros((1, 64), np.float32)), customer="<script>alert(1)</script>"
    )
    recording.judge(hostile, 1)
    recording.judge(hostile, 2, customer="<img src=x>")
    text = page(analysed(recording, tmp_path))
    assert not re.search(r"<script|<img|<link|https?://|url\(|@import", text)
    assert "&lt;img src=x&gt;" in text
    assert text.count("<svg") > 20
