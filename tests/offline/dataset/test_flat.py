"""A flat export: one row for each row of a request, one column a feature, of every kind that such a table can hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from gateway.errors import InvalidRequest, NotFound
from gateway.offline.analysis.features import FeatureNames
from gateway.offline.dataset.export import ExportSource, Meters, export
from gateway.offline.dataset.form import Form
from gateway.offline.dataset.manifest_file import read_manifest
from gateway.offline.examples import Predicting
from gateway.offline.reader import Query, records_in
from gateway.protocol.tensors import TensorSpec
from gateway.settings.model import Kind
from tests.recording import MODELS, Recording, data, json_request

RAW = TensorSpec("text", "BYTES", (-1,))
HEAD = ["timestamp", "prediction_id", "row", "version", "variant", "route", "customer"]
LABELS = ("malignant", "benign")


def silent(size: int) -> None:
    """A progress callback that shows nothing."""


def flat(
    recording: Recording,
    folder: Path,
    predicting: Predicting,
    names: FeatureNames | None = None,
    form: str = "parquet",
    **query: Any,
) -> Path:
    records = records_in(recording.save(folder / "records"))
    source = ExportSource(records, lambda version: RAW, predicting, names or FeatureNames())
    query_ = Query(recording.model, **query)
    export(source, query_, folder / "out", Form(form, flat=True), Meters(silent, silent, silent))
    return folder / "out"


def frame(folder: Path) -> pl.DataFrame:
    (model,) = folder.glob("model=*")
    return pl.read_parquet(model).drop("date")


def tensor(name: str, rows: Any, datatype: str = "FP32") -> dict[str, Any]:
    array = np.asarray(rows)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def record(recording: Recording, inputs: list[Any], outputs: list[Any], **fields: Any) -> dict[str, Any]:
    return recording.record(request={"inputs": inputs}, response={"outputs": outputs}, **fields)


def test_each_row_of_a_classification_has_features_scores_and_classes_by_name(tmp_path: Path) -> None:
    recording = Recording("tumor")
    rows = data("tumor").test_x[:5].astype(np.float32)
    one, several = (recording.predict(json_request("tumor", part)) for part in (rows[:1], rows[1:5]))
    recording.judge(one, 1)
    recording.feedback(several, truth=[0, None, 1, 1], truth_class=[0, None, 1, 1], correct=None, outcomes={})
    names = [f"feature {index}" for index in range(30)]
    folder = flat(recording, tmp_path, Predicting("probabilities", None, LABELS), FeatureNames(names))
    table = frame(folder)
    assert table.columns == [*HEAD, *names, "prediction", "proba_malignant", "proba_benign", "target"]
    assert np.array_equal(table.select(names).to_numpy(), rows)
    assert table["row"].to_list() == [0, 0, 1, 2, 3]
    assert table["target"].to_list() == ["benign", "malignant", None, "benign", "benign"]
    scores = table.select("proba_malignant", "proba_benign").to_numpy()
    assert table["prediction"].to_list() == [LABELS[int(row.argmax())] for row in scores]
    assert str(table["timestamp"][0]) == "2026-11-18 12:00:01+00:00"
    manifest = read_manifest(folder)
    assert manifest is not None
    assert (manifest["rows"], manifest["predictions"], manifest["flat"]) == (5, 2, True)
    assert manifest["inputs"]["features"]["columns"] == names
    assert sum(part["rows"] for part in manifest["files"]) == 5


def test_features_without_names_are_numbered_and_give_way_to_other_columns(tmp_path: Path) -> None:
    recording = Recording()
    record(recording, [tensor("target", [[1.0, 2.0]]), tensor("row", [[7]], "INT64")], [tensor("y", [[0.5]])])
    table = frame(flat(recording, tmp_path, Predicting("y", Kind.REGRESSION)))
    assert table.columns == [*HEAD, "target_0", "target_1", "row_", "prediction", "target"]
    assert table.select("target_0", "target_1", "row_", "prediction").rows() == [(1.0, 2.0, 7, 0.5)]


def test_regression_has_numbers(tmp_path: Path) -> None:
    recording = Recording()
    one = record(recording, [tensor("x", [[1.0], [2.0]])], [tensor("y", [[10.0], [20.0]])])
    record(recording, [tensor("x", [[3.0]])], [tensor("y", [[30.0]])])
    recording.feedback(one, truth=[11.5, None], outcomes={})
    table = frame(flat(recording, tmp_path, Predicting("y", Kind.REGRESSION)))
    assert table.select("x", "prediction", "target").rows() == [(1.0, 10.0, 11.5), (2.0, 20.0, None), (3.0, 30.0, None)]


def test_multilabel_has_a_column_for_each_label(tmp_path: Path) -> None:
    recording = Recording()
    one = record(recording, [tensor("x", [[1.0]])], [tensor("y", [[0.9, 0.1, 0.6]])], predictions={"y": [[0, 2]]})
    record(recording, [tensor("x", [[2.0]])], [tensor("y", [[0.2, 0.7, 0.1]])], predictions={"y": [[1]]})
    recording.feedback(one, truth=["cat", "dog"], truth_class=[0, 1], outcomes={})
    table = frame(flat(recording, tmp_path, Predicting("y", Kind.MULTILABEL, ("cat", "dog", "fox"))))
    columns = [f"{what}_{name}" for what in ("prediction", "proba", "target") for name in ("cat", "dog", "fox")]
    assert table.columns == [*HEAD, "x", *columns]
    assert table.select(columns[:3]).rows() == [(True, False, True), (False, True, False)]
    assert table["proba_dog"].to_list() == pytest.approx([0.1, 0.7])
    assert table.select(columns[6:]).rows() == [(True, True, False), (None, None, None)]


def test_label_whose_column_is_there_already_has_another(tmp_path: Path) -> None:
    recording = Recording()
    record(recording, [tensor("prediction_id_", [[1.0]])], [tensor("y", [[0.9]])], predictions={"y": [[0]]})
    table = frame(flat(recording, tmp_path, Predicting("y", Kind.MULTILABEL, ("id",))))
    assert table.columns == [*HEAD, "prediction_id__", "prediction_id_", "proba_id", "target_id"]
    assert table["prediction_id_"].to_list() == [True]


def test_probability_of_the_second_class_gives_both(tmp_path: Path) -> None:
    recording = Recording()
    record(recording, [tensor("x", [[1.0], [2.0]])], [tensor("p", [[0.25], [0.75]])], predictions={"p": [0, 1]})
    table = frame(flat(recording, tmp_path, Predicting("p", Kind.CLASSIFICATION, LABELS)))
    assert table.select("proba_malignant", "proba_benign").rows() == [(0.75, 0.25), (0.25, 0.75)]


def test_classes_without_names_are_their_indices(tmp_path: Path) -> None:
    recording = Recording()
    recording.judge(recording.predict(json_request("digits", data("digits").test_x[:1])), 7)
    table = frame(flat(recording, tmp_path, Predicting("probabilities")))
    assert table.columns[7:9] == ["image_0", "image_1"]
    assert table.columns[-12:] == ["prediction", *(f"proba_{index}" for index in range(10)), "target"]
    assert table.select("prediction", "target").dtypes == [pl.Int64, pl.Int64]


def test_text_and_optional_inputs(tmp_path: Path) -> None:
    recording = Recording()
    record(
        recording, [tensor("text", ["a", "ü"], "BYTES"), tensor("n", [[1], [2]], "INT32")], [tensor("y", [1.0, 2.0])]
    )
    record(recording, [tensor("text", ["c"], "BYTES")], [tensor("y", [3.0])])
    record(recording, [tensor("text", ["d"], "BYTES"), tensor("n", [[2.5]], "FP32")], [tensor("y", [3.0])])
    table = frame(flat(recording, tmp_path, Predicting("y", Kind.REGRESSION)))
    assert table["text"].to_list() == ["a", "ü", "c", "d"]
    assert table["n"].to_list() == [1.0, 2.0, None, 2.5]


def test_failed_predictions_are_left_out(tmp_path: Path) -> None:
    recording = Recording()
    recording.record(request={"inputs": [tensor("x", [[1.0, 2.0]])]}, outcome="client_error")
    record(recording, [tensor("x", [[1.0]])], [tensor("y", [[10.0]])])
    folder = flat(recording, tmp_path, Predicting("y", Kind.REGRESSION))
    assert frame(folder)["x"].to_list() == [1.0]
    manifest = read_manifest(folder)
    assert manifest is not None and (manifest["rows"], manifest["predictions"]) == (1, 1)


@pytest.mark.parametrize(
    ("requests", "predicting", "says"),
    [
        ([([[1.0, 2.0]], [[0.5]]), ([[1.0]], [[0.5]])], Predicting("y", Kind.REGRESSION), "rows of 2 and of 1 values"),
        ([([1.0], [[0.5], [0.6]])], Predicting("y", Kind.REGRESSION), "does not have a row for each of 2 predictions"),
        ([([[1.0] * 5000], [[0.5]])], Predicting("y", Kind.REGRESSION), "4,096 is the limit"),
        ([([[1.0]], [[0.5, 0.7]])], Predicting("y", Kind.RANKING), "the outputs are a ranking"),
        ([([[1.0]], [[0.5, 0.7]])], Predicting(), "what the model predicts is not known"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, requests: Any, predicting: Predicting, says: str) -> None:
    recording = Recording()
    for x, y in requests:
        record(recording, [tensor("x", x)], [tensor("y", y)])
    with pytest.raises(InvalidRequest, match=says):
        flat(recording, tmp_path, predicting)
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    recording = Recording("tickets")
    recording.record(
        request=None, request_binary="/w==", request_media="image/png", response={"outputs": [tensor("y", [0.5])]}
    )
    with pytest.raises(InvalidRequest, match="input 'text' holds bytes that are no text"):
        flat(recording, tmp_path, Predicting("y", Kind.REGRESSION))


def test_no_prediction_is_no_export(tmp_path: Path) -> None:
    recording = Recording()
    record(recording, [tensor("x", [[1.0]])], [tensor("y", [[10.0]])])
    with pytest.raises(NotFound, match="nothing to export"):
        flat(recording, tmp_path, Predicting("y", Kind.REGRESSION), variant="candidate")


def test_csv_and_json_lines_say_the_same_as_parquet(tmp_path: Path) -> None:
    recording = Recording("tumor")
    for row in data("tumor").test_x[:20].astype(np.float32):
        recording.judge(recording.predict(json_request("tumor", row[None])), 1)
    predicting = Predicting("probabilities", None, LABELS)
    found, contents = {}, set()
    for form in ("parquet", "csv", "jsonl"):
        folder = flat(recording, tmp_path / form, predicting, form=form)
        manifest = read_manifest(folder)
        assert manifest is not None
        contents.add(manifest["content_sha256"])
        file = folder / manifest["files"][0]["path"]
        found[form] = {
            "parquet": pd.read_parquet,
            "csv": lambda path: pd.read_csv(path, parse_dates=["timestamp"]),
            "jsonl": lambda path: pd.read_json(path, lines=True),
        }[form](file)
    assert len(contents) == 1
    for form in ("csv", "jsonl"):
        pd.testing.assert_frame_equal(
            found[form].assign(timestamp=pd.to_datetime(found[form]["timestamp"], utc=True).dt.as_unit("us")),
            found["parquet"][found[form].columns.tolist()],
            check_dtype=False,
            rtol=1e-6,
        )


def test_shipped_model_names_its_features(tmp_path: Path) -> None:
    from gateway.offline.recorded_model import RecordedModel

    recording = Recording("tumor")
    recording.predict(json_request("tumor", data("tumor").test_x[:1].astype(np.float32)))
    recording.save(tmp_path / "state" / "records")
    model = RecordedModel([tmp_path / "state" / "records"], MODELS, "tumor")
    source = ExportSource(model.records, model.raw_input, model.predicting, model.features)
    export(source, Query("tumor"), tmp_path / "out", Form(flat=True), Meters(silent, silent, silent))
    table = frame(tmp_path / "out")
    assert {"prediction", "proba_malignant", "proba_benign"} < set(table.columns)
    assert table["prediction"][0] in LABELS
