"""Running recorded requests again: on the same version the answers are equal, another version is compared."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.backends.loaded_version import load_version
from gateway.errors import GatewayError
from gateway.offline.examples import Predicting
from gateway.offline.reader import Query, records_in
from gateway.offline.replay.comparison import Match, difference
from gateway.offline.replay.judgement import Agreeing
from gateway.offline.replay.replay import Replay, replay
from gateway.offline.replay.report import remarks
from gateway.protocol.elements import to_bytes
from gateway.protocol.tensors import Tensor
from gateway.settings.model import ModelSettings
from tests.backends import onnx_models
from tests.recording import Recording, data, json_request, loaded


def again(recording: Recording, folder: Path, version: int = 1, batched: bool = True, **more: Any) -> Replay:
    records = records_in(recording.save(folder / "records"))
    return replay(
        records,
        Query(recording.model),
        more.pop("loaded", None) or loaded(recording.model, version),
        version,
        limit=more.pop("limit", None),
        batched=batched,
        feedback=lambda size: None,
        rows=lambda size: None,
        **more,
    )


def binary_request(rows: Any) -> tuple[bytes, int]:
    raw = to_bytes(rows, "FP32")
    tensor = {"name": "image", "shape": rows.shape, "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    text = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    return text + raw, len(text)


def every_kind() -> Recording:
    """JSON and binary requests, with one row and several, with and without classification."""
    recording = Recording()
    rows = data("digits").test_x
    wanted = [{"name": "probabilities", "parameters": {"classification": 3}}]
    for number in range(0, 300, 3):
        prediction = recording.predict(json_request("digits", rows[number : number + 1]))
        recording.judge(prediction, int(data("digits").test_y[number]))
        body, length = binary_request(rows[number : number + 3])
        recording.predict(body, json_length=length)
        recording.predict(json_request("digits", rows[number : number + 2], outputs=wanted))
    return recording


def test_same_version_unbatched_answers_bit_for_bit(tmp_path: Path) -> None:
    agreeing = Agreeing(Predicting("probabilities"))
    (comparison,) = again(every_kind(), tmp_path, batched=False, agreeing=agreeing).by_version.values()
    assert comparison.matches == {Match.EXACT: 300, Match.CLOSE: 0, Match.DIFFERENT: 0}
    assert (comparison.judgement.agreed, comparison.judgement.compared) == (400, 400)
    assert (comparison.failed, comparison.other_file) == (0, 0)


def test_same_version_in_batches_answers_equal_but_for_rounding(tmp_path: Path) -> None:
    result = again(every_kind(), tmp_path)
    (comparison,) = result.by_version.values()
    assert comparison.matches[Match.DIFFERENT] == comparison.failed == 0
    assert comparison.matches[Match.CLOSE] > 0, "a batch rounds otherwise than a row: else nothing was batched"
    assert comparison.quantiles()["max"] < 1e-5
    assert remarks(result) == []


@pytest.mark.slow
def test_replay_of_ten_thousand_predictions(tmp_path: Path) -> None:
    recording = Recording()
    rows = data("digits").test_x
    predictions = [recording.predict(json_request("digits", rows[number : number + 1]), 2) for number in range(500)]
    for number in range(9_500):
        recording.record(**{**predictions[number % 500], "prediction_id": f"copy-{number}"})
    (comparison,) = again(recording, tmp_path, 2).by_version.values()
    assert comparison.matches[Match.EXACT] + comparison.matches[Match.CLOSE] == 10_000


def test_replay_of_text_and_raw_bodies(tmp_path: Path) -> None:
    recording = Recording("tickets")
    recording.predict(b"I was charged twice", media="text")
    recording.predict(json_request("tickets", np.array([["where is my parcel?"], ["reset my password"]], object)))
    (comparison,) = again(recording, tmp_path, batched=False).by_version.values()
    assert comparison.matches[Match.EXACT] == 2


def test_other_version_is_compared_where_the_truth_is_known(tmp_path: Path) -> None:
    recording = Recording()
    rows, truths = data("digits").test_x, data("digits").test_y
    for number in range(200):
        recording.judge(recording.predict(json_request("digits", rows[number : number + 1])), int(truths[number]))
    recording.predict(json_request("digits", rows[:1]), 2, variant="candidate")
    result = again(recording, tmp_path, 2)
    assert list(result.by_version) == [1, 2]
    assert [one.other_file for one in result.by_version.values()] == [0, 0]
    other = result.by_version[1]
    judged = other.judgement
    answers = [loaded("digits", version).session.run({"image": rows[:200]})[0] for version in (1, 2)]
    first, second = (np.asarray(answer) for answer in answers)
    assert (other.judgement.agreed, other.judgement.compared) == (int((first == second).sum()), 200)
    assert (judged.right_then, judged.right_now) == (
        int((first == truths[:200]).sum()),
        int((second == truths[:200]).sum()),
    )
    assert judged.right_now - judged.right_then == judged.fixed - judged.regressed > 0
    assert judged.accuracy_now.low < judged.accuracy_now.value < judged.accuracy_now.high
    assert other.quantiles()["p95"] > 0.1


def test_replay_respects_the_limit_and_counts_what_it_cannot_run(tmp_path: Path) -> None:
    recording = Recording()
    recording.record(outcome="timeout", request=None, error="too late")
    recording.record(request=None, request_sha256="ab", response=None)
    for _ in range(5):
        recording.predict(json_request("digits", data("digits").test_x[:1]))
    result = again(recording, tmp_path, limit=3)
    assert (result.count, result.unanswered, result.unrecorded) == (3, 1, 1)
    assert remarks(result) == ["Skipped: 1 that had failed, 1 without a recorded request."]


def test_replay_without_recorded_requests_is_refused(tmp_path: Path) -> None:
    recording = Recording()
    recording.record(request=None)
    with pytest.raises(GatewayError, match="1 have no recorded request or response"):
        again(recording, tmp_path)


def test_unfitting_version_fails_on_each_request_with_the_reason(tmp_path: Path) -> None:
    recording = Recording()
    recording.predict(json_request("digits", data("digits").test_x[:1]))
    file = tmp_path / "other" / "3" / "model.onnx"
    onnx_models.doubling(file)
    other = load_version(file, ModelSettings(), tmp_path / "none")
    result = again(recording, tmp_path, 3, loaded=other)
    (comparison,) = result.by_version.values()
    assert (comparison.failed, comparison.other_file) == (1, 0)
    assert "unknown input 'image'" in comparison.first_error
    assert "unknown input 'image'" in remarks(result)[0]


def test_changed_model_file_under_the_same_version_is_reported(tmp_path: Path) -> None:
    recording = Recording()
    recording.predict(json_request("digits", data("digits").test_x[:1]), model_sha256="0" * 64)
    assert "that is not on disk now" in remarks(again(recording, tmp_path))[0]


def text(*values: Any) -> Tensor:
    return tensor(*values, datatype="BYTES", dtype=object)


def whole(*values: Any) -> Tensor:
    return tensor(*values, datatype="INT64", dtype=np.int64)


def tensor(*values: Any, datatype: str = "FP32", dtype: Any = np.float32) -> Tensor:
    return Tensor("y", datatype, np.array(values, dtype))


@pytest.mark.parametrize(
    ("then", "now", "sameness", "distance"),
    [
        (tensor(1.0, 2.0), tensor(1.0, 2.0), Match.EXACT, 0.0),
        (tensor(np.nan, np.inf), tensor(np.nan, np.inf), Match.EXACT, 0.0),
        (tensor(0.0), tensor(-0.0), Match.CLOSE, 0.0),
        (tensor(1e6), tensor(1e6 + 1), Match.CLOSE, 1.0),
        (tensor(0.1), tensor(0.2), Match.DIFFERENT, pytest.approx(0.1)),
        (tensor(np.nan), tensor(1.0), Match.DIFFERENT, np.inf),
        (tensor(1.0), tensor(1.0, 2.0), Match.DIFFERENT, np.inf),
        (whole(3), whole(4), Match.DIFFERENT, 0.0),
        (text("a"), text(b"a"), Match.EXACT, 0.0),
        (text("a"), text("b"), Match.DIFFERENT, np.inf),
        (text("0.900000:3:three"), text("0.900001:3:three"), Match.CLOSE, pytest.approx(1e-6)),
        (text("0.9:3"), text("0.9:4"), Match.DIFFERENT, np.inf),
    ],
)
def test_difference_classifies_two_answers(then: Tensor, now: Tensor, sameness: Match, distance: float) -> None:
    found = difference(then, now)
    assert (found.match, found.distance) == (sameness, distance)
