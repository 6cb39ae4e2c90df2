"""`models/automl.py`, run with FLAML itself: from exports to versions that the gateway takes for candidates."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import yaml
from onnx import helper

from gateway.backends.loaded_version import LoadedVersion, load_version
from gateway.backends.repository import Repository
from gateway.offline.dataset.export import ExportSource, Meters, export
from gateway.offline.dataset.form import Form
from gateway.offline.reader import Query, records_in
from tests.backends.onnx_models import FLOAT, INT64, STRING, place, save
from tests.processes.flawed import until
from tests.processes.test_commands import command
from tests.recording import MODELS, Recording, data, json_request, loaded
from tests.running import GatewayProcess
from tests.tools import tool

pytestmark = pytest.mark.slow

SCRIPT = MODELS / "automl.py"
ROWS, FEW = 300, 150
LABELS = ("low", "high", "middle")  # not in the order of the alphabet
IN_TURN = """
import json, runpy, sys
said = []
for words in json.loads(sys.argv[1]):
    sys.argv = [sys.argv[0], *words]
    try:
        runpy.run_path(%r, run_name="__main__")
    except SystemExit as error:
        said.append(str(error))
    else:
        said.append("")
print(json.dumps(said))
"""


def silent(size: int) -> None:
    """A progress callback that shows nothing."""


def exported(recording: Recording, folder: Path, kind: str = "parquet") -> Path:
    """The data set of a recording."""
    (spec,) = loaded("tumor", 1).session.signature.inputs  # of raw bodies, which are not recorded here
    source = ExportSource(records_in(recording.save(folder / "records")), lambda version: spec)
    out = folder / f"dataset_{kind}"
    export(source, Query(recording.model), out, Form(kind), Meters(silent, silent, silent))
    return out


def shipped(name: str, rows: int) -> Recording:
    """Answered and judged requests of a shipped model."""
    recording, known = Recording(name), data(name)
    for row, truth in zip(known.train_x[:rows].astype(np.float32), known.train_y[:rows], strict=True):
        recording.judge(recording.predict(json_request(name, row[None])), int(truth))
    return recording


def tensor(name: str, datatype: str, values: list[Any], width: int = 1) -> dict[str, Any]:
    shape = [len(values) // width, width] if width else [len(values)]
    return {"name": name, "shape": shape, "datatype": datatype, "data": values}


def automl(*asked: Sequence[str | Path], **variables: str) -> tuple[list[str], str]:
    """Run the script with each of these command lines, all in one process, because its imports take seconds.

    Returns with what it refused each ("" if it did not), and all that was printed.
    """
    words = json.dumps([list(map(str, one)) for one in asked])
    line = [str(tool("automl") / "python"), "-c", IN_TURN % str(SCRIPT), words]
    environment = os.environ | variables
    ended = subprocess.run(line, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    said: list[str] = json.loads(ended.stdout.splitlines()[-1])
    return said, ended.stdout


def version_in(folder: Path) -> LoadedVersion:
    """A version as the gateway loads it; its folder is MODELS/NAME/N."""
    repository, name = Repository(folder.parent.parent), folder.parent.name
    return load_version(folder / "model.onnx", repository.settings(name), repository.sample(name))


def orders() -> Recording:
    """Orders with a level of risk: two columns of strings, an amount that is missing at times, a whole number.

    Three are "middle", too few to learn; ten are repeated, one is judged in contradiction, one not at all.
    """
    recording, generator = Recording("orders"), np.random.default_rng(1)
    for number in range(ROWS):
        channel, city = generator.choice(["web", "shop", "phone"]), f"city {generator.integers(9)}"
        amount = float(generator.integers(1, 200))
        risk = 2 if number in (3, 5, 7) else int(channel == "web" and amount > 60)
        said: list[Any] = [amount if number % 5 else "NaN"]
        inputs = [
            tensor("who", "BYTES", [channel, city], 2),
            tensor("amount", "FP32", said, 0),
            tensor("items", "INT64", [number]),
        ]
        for time in range(2 if number < 10 else 1):
            judged = recording.record(request={"inputs": inputs}, response={"outputs": []})
            recording.feedback(judged, truth=LABELS[risk], truth_class=risk)
            if number == 20 and time == 0:
                recording.feedback(judged, truth="middle", truth_class=2)
    recording.record(request={"inputs": inputs}, response={"outputs": []})
    both = [tensor("who", "BYTES", ["web", "x", "shop", "x"], 2), tensor("amount", "FP32", [99, 99], 0)]
    judged = recording.record(request={"inputs": [*both, tensor("items", "INT64", [7, 8])]}, response={"outputs": []})
    recording.feedback(judged, truth=["high", "low"], truth_class=[1, 0], outcomes={})
    return recording


def shop(folder: Path) -> Path:
    """A repository with the model of orders, whose outputs are a name and scores."""
    inputs = {"who": (STRING, ("n", 2)), "amount": (FLOAT, ("n",)), "items": (INT64, ("n", 1))}
    nodes = [
        helper.make_node("Cast", ["items"], ["count"], to=FLOAT),
        helper.make_node("Concat", ["count"] * 3, ["scores"], axis=1),
        helper.make_node("Gather", ["who", "place"], ["risk"], axis=1),
    ]
    place_0 = helper.make_tensor("place", INT64, [], [0])
    outputs = {"risk": (STRING, ("n",)), "scores": (FLOAT, ("n", 3))}
    place(folder, "orders", 1, lambda path: save(path, nodes, inputs, outputs, [place_0]))
    settings = {"modality": "tabular", "prediction": {"output": "scores", "labels": list(LABELS)}}
    (folder / "orders" / "model.yaml").write_text(yaml.safe_dump(settings))
    return folder


class Made(NamedTuple):
    """A version that two processes have made alike, what is in its training.json, and all that they have printed."""

    folder: Path
    training: dict[str, Any]
    printed: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """Versions of three models, made from Parquet and, in another environment, of the same rows as JSON Lines."""
    folder = tmp_path_factory.mktemp("automl")
    recordings = {"tumor": shipped("tumor", ROWS), "orders": orders(), "prices": prices()}
    more: dict[str, list[str | Path]] = {
        "tumor": ["--max-iter", "6"],
        "orders": ["--max-iter", "6", "--metric", "accuracy", "--models", shop(folder / "models")],
        "prices": ["--max-iter", "10", "--models", houses(folder / "models")],
    }
    printed = ""
    for kind, variables in (
        ("parquet", {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}),
        ("jsonl", {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}),
    ):
        asked = [
            [name, "--dataset", exported(recording, folder / name, kind), "--out", folder / kind / name, *more[name]]
            for name, recording in recordings.items()
        ]
        said, now = automl(*asked, **variables)
        assert said == ["", "", ""]
        printed += now
    versions = {"tumor": "3", "orders": "2", "prices": "1"}
    found = {}
    for name, version in versions.items():
        one, other = (folder / kind / name / version for kind in ("parquet", "jsonl"))
        for file in ("model.onnx", "training.json"):
            assert (one / file).read_bytes() == (other / file).read_bytes(), (name, file)
        found[name] = Made(one, json.loads((one / "training.json").read_text()), printed)
        manifest = json.loads((folder / name / "dataset_jsonl" / "_manifest.json").read_text())
        assert found[name].training["dataset_content_sha256"] == manifest["content_sha256"]
    return found


def test_tumor_version_answers_for_stable(made: dict[str, Made]) -> None:
    folder, training, printed = made["tumor"]
    assert (training["train_rows"], training["held_out_rows"], training["dataset_rows"]) == (240, 60, 300)
    assert (training["trials"], training["metric"], training["ended_by_time_limit"]) == (6, "log_loss", False)
    assert "loss (log_loss)" in printed
    assert "version 2, whose inputs and outputs it has (--like), on the same rows: accuracy" in printed
    assert "if it has learned from some of them, that is too much" in printed
    assert training["earlier_version"]["version"] == 2
    assert training["earlier_version"]["may_have_learned_from_these_rows"]
    version, stable = version_in(folder), loaded("tumor", 2)
    stable.session.signature.check_replaceable_by(version.session.signature, 3)
    assert version.warm_up.rows > 1, "it can be batched"
    held_out, truths = (part[ROWS - 60 : ROWS] for part in (data("tumor").train_x, data("tumor").train_y))
    label, scores = version.session.run({"features": held_out.astype(np.float32)})
    assert round(float((np.asarray(label) == truths).mean()), 4) == training["held_out_accuracy"] > 0.9
    assert (np.asarray(scores).argmax(axis=1) == label).all()


def test_strings_are_categories_and_classes_come_in_the_order_of_model_yaml(
    made: dict[str, Made], tmp_path: Path
) -> None:
    folder, training, _ = made["orders"]
    left_out = {"contradicting truths": 1, "of a rare class": 3, "repeated": 10, "without a truth": 1}
    assert training["rows_left_out"] == left_out
    assert (training["classes_left_out"], training["metric"]) == (["middle"], "accuracy")
    assert training["dataset_rows"] == ROWS - 1 - 3 + 2
    assert training["held_out_accuracy"] > 0.8
    version = version_in(folder)
    stable = version_in(shop(tmp_path) / "orders" / "1")
    stable.session.signature.check_replaceable_by(version.session.signature, 2)
    feeds = {
        "who": np.array([["web", "city 1"], ["shop", "city 1"], ["by pigeon", "Atlantis"], ["web", "city 2"]], object),
        "amount": np.array([150, 150, 150, np.nan], np.float32),
        "items": np.full((4, 1), 100),
    }
    risk, scores = version.session.run(feeds)
    assert list(risk[:2]) == ["high", "low"]
    assert np.isfinite(scores).all() and (np.asarray(scores)[:, 2] == 0).all(), (
        "of strings never seen, and without amount"
    )
    assert [LABELS[place] for place in np.asarray(scores).argmax(axis=1)] == list(risk)


def prices(rows: int = ROWS) -> Recording:
    """Houses with a price; a column that is always missing, and one that never changes."""
    recording, generator = Recording("prices"), np.random.default_rng(2)
    for _ in range(rows):
        size, age = generator.uniform(20, 200), generator.uniform(0, 50)
        inputs = [tensor("house", "FP64", [size, age, "NaN", 1.0], 4)]
        judged = recording.record(request={"inputs": inputs}, response={"outputs": []})
        recording.feedback(judged, truth=3 * size - age + 100 * (age < 10))
    return recording


def houses(folder: Path) -> Path:
    """A repository with the settings of a model that has no version yet."""
    (folder / "prices").mkdir(parents=True)
    settings = {"prediction": {"output": "price"}}  # of no kind: the truths show that it is a number
    (folder / "prices" / "model.yaml").write_text(yaml.safe_dump(settings))
    return folder


def test_numbers_are_predicted_where_there_is_no_earlier_version(made: dict[str, Made]) -> None:
    folder, training, printed = made["prices"]
    assert (training["metric"], training["earlier_version"]) == ("rmse", None)
    assert training["held_out_r2"] > 0.9
    assert f"rmse {training['held_out_rmse']:.4f}" in printed
    version = version_in(folder)
    (price,) = version.session.run({"house": np.array([[100, 5, np.nan, 1], [100, 40, 3, np.inf]])})
    assert np.abs(np.asarray(price).ravel() - [395, 260]).max() < 60


def test_onnx_of_every_learner_answers_as_python_does() -> None:
    """Also on either side of a threshold, where its rounding would decide; another's file is refused."""
    ended = subprocess.run(
        [str(tool("automl") / "python"), str(Path(__file__).parent / "automl_parity.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert len(said["differences"]) == 15
    assert max(said["differences"].values()) < 1e-5
    assert "100 of 100 held-out rows otherwise than Python does, so nothing is written" in said["refused"]


def judged(model: str, count: int, inputs: Callable[[int], Any], truth: Callable[[int], Any]) -> Recording:
    """Requests with a truth each; `truth` gives the fields of its feedback."""
    recording = Recording(model)
    for number in range(count):
        one = recording.record(request={"inputs": [inputs(number)]}, response={"outputs": []})
        recording.feedback(one, **truth(number))
    return recording


def test_what_cannot_be_learned_is_refused_with_the_remedy(tmp_path: Path) -> None:
    models = tmp_path / "models"
    pixels = {"pixels": (FLOAT, ("n", 1, 2, 2))}
    scores = [helper.make_node("ReduceMean", ["pixels"], ["scores"], axes=[1, 2], keepdims=0)]
    place(models, "picture", 1, lambda path: save(path, scores, pixels, {"scores": (FLOAT, ("n", 2))}))
    kinds = {"picture": {"labels": ["cat", "dog"]}, "boxes": {"kind": "ranking"}, "unnamed": {"kind": "classification"}}
    for name, prediction in kinds.items():
        (models / name).mkdir(parents=True, exist_ok=True)
        (models / name / "model.yaml").write_text(yaml.safe_dump({"prediction": {"output": "scores", **prediction}}))

    def row(number: int) -> Any:
        return tensor("features", "FP32", [float(number)] * 30, 30)

    def of(truth_class: Callable[[int], int]) -> Callable[[int], Any]:
        return lambda number: {"truth": str(truth_class(number)), "truth_class": truth_class(number)}

    def half(number: int) -> Any:
        return row(number // 2)

    def message(number: int) -> Any:
        return tensor("text", "BYTES", [f"message {number}"])

    picture = tensor("pixels", "FP32", [1.0] * 4, 4)
    recordings = {
        "few": judged("tumor", 49, row, of(lambda number: number % 2)),
        "alike": judged("tumor", 60, row, of(lambda number: 1)),
        "contradicting": judged("tumor", 120, half, of(lambda number: number % 2)),
        "good": judged("tumor", 60, row, of(lambda number: number // 2 % 2)),
        "text": judged("tickets", 60, message, of(lambda number: number % 5)),
        "picture": judged("picture", 1, lambda number: picture, of(lambda number: 1)),
        "boxes": judged("boxes", 1, lambda number: picture, of(lambda number: 1)),
        "unnamed": judged("unnamed", 1, lambda number: picture, of(lambda number: 1)),
    }
    datasets = {name: exported(recording, tmp_path / name) for name, recording in recordings.items()}
    out = tmp_path / "out"
    (out / "7").mkdir(parents=True)

    def asked(name: str, *more: str | Path) -> list[str | Path]:
        return [recordings[name].model, "--dataset", datasets[name], "--out", out, *more]

    said, _ = automl(
        asked("few"),
        asked("alike"),
        asked("contradicting"),
        asked("text"),
        asked("picture", "--models", models),
        asked("boxes", "--models", models),
        asked("unnamed", "--models", models),
        asked("good", "--metric", "rmse"),
        asked("good", "--version", "7"),
        asked("good", "--like", "5"),
        asked("good", "--time-limit", "0.001"),
        ["tumor", "--dataset", tmp_path],
        ["digits", "--dataset", datasets["good"]],
    )
    for says, expected in zip(
        said,
        (
            "49 different rows with truths are too few, 50 are the least; send truths (`gateway feedback`",
            "fewer than two classes have 5 rows to train on (benign: 48)",
            "60 of 60 different inputs have truths that contradict each other",
            "'text'[0]: nearly every row has a text of its own",
            "input 'pixels' has the shape [-1, 1, 2, 2], such as of an image",
            "the main output is of the kind ranking, and AutoML does classification and regression",
            "does not name the classes; add them as `prediction.labels`",
            "--metric rmse: for this model it is one of log_loss, accuracy, macro_f1, roc_auc",
            "7 exists, and a version never changes",
            "--like 5: there is no",
            "no trial ended within 0.001 s; raise --time-limit",
            "holds no _manifest.json: write it with `gateway export tumor",
            "is a parquet export of tumor; this needs parquet or jsonl of digits",
        ),
        strict=True,
    ):
        assert expected in says
    assert [entry.name for entry in out.iterdir()] == ["7"], "nothing is written"


def test_from_traffic_to_the_promoted_version(tmp_path: Path) -> None:
    """Requests and feedback at a gateway, export, AutoML, propose; the candidate answers and is promoted."""
    known, models = data("digits"), tmp_path / "models"
    shutil.copytree(MODELS / "digits" / "1", models / "digits" / "1")
    shutil.copy(MODELS / "digits" / "model.yaml", models / "digits")
    rows = known.train_x[300 : 300 + FEW].astype(np.float32)
    with GatewayProcess(tmp_path / "gateway", models, {"models": {"digits": {"stable": 1}}}) as running:
        with httpx.Client(base_url=running.url) as client:
            for row, truth in zip(rows, known.train_y[300:], strict=False):
                answer = client.post("/v2/models/digits/infer", content=json_request("digits", row[None])).json()
                about = {"prediction_id": answer["parameters"]["prediction_id"], "truth": int(truth)}
                assert client.post("/v2/feedback", json=about).status_code == 202
        dataset, out = tmp_path / "dataset", tmp_path / "trained"
        exports = ("export", "digits", "--out", str(dataset), "--with-feedback", "--json")
        until(lambda: _rows_with_feedback(command(running.config, *exports)) == FEW, "all feedback is exported")
        assert automl(["digits", "--models", models, "--dataset", dataset, "--out", out, "--max-iter", "5"])[0] == [""]
        training = json.loads((out / "2" / "training.json").read_text())
        assert training["held_out_accuracy"] >= training["earlier_version"]["held_out_accuracy"] - 0.1
        proposed = command(running.config, "propose", "digits", str(out / "2"), "--weight", "100")
        assert (proposed.returncode, proposed.stderr) == (0, "")
        assert _answered_by(running) == 2
        assert command(running.config, "promote", "digits").returncode == 0
        (release,) = json.loads(command(running.config, "status", "--json").stdout)
        assert (release["stable"], release["candidate"]) == (2, None)
        assert (models / "digits" / "2" / "training.json").read_bytes() == (out / "2" / "training.json").read_bytes()


def _rows_with_feedback(ended: "subprocess.CompletedProcess[str]") -> int:
    return int(json.loads(ended.stdout)["rows_with_feedback"]) if ended.returncode == 0 else 0


def _answered_by(running: GatewayProcess) -> int:
    body = json_request("digits", data("digits").test_x[:1])
    return int(httpx.post(f"{running.url}/v2/models/digits/infer", content=body).json()["model_version"])
