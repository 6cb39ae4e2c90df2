"""Record segments as the gateway writes them, of real predictions of the shipped models."""

import base64
import importlib.util
import itertools
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml

from gateway.backends.loaded_version import LoadedVersion, load_version
from gateway.backends.repository import Repository
from gateway.protocol.classification import classify
from gateway.protocol.decode import decode_raw, decode_request
from gateway.protocol.encode import encode_response
from gateway.protocol.tensors import InferRequest, InferResponse, Tensor
from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS, segment_path

MODELS = Path(__file__).parents[1] / "models"
NOON_NS = 1_795_003_200 * 1_000_000_000  # 2026-11-18T12:00:00Z
STEP_NS = 1_000_000_000


@cache
def loaded(name: str, version: int) -> LoadedVersion:
    """A shipped version, loaded as the gateway does."""
    repository = Repository(MODELS)
    return load_version(repository.model_file(name, version), repository.settings(name), repository.sample(name))


@cache
def data(name: str) -> Any:
    """The data of a shipped model's training script."""
    sys.path.insert(0, str(MODELS))
    spec = importlib.util.spec_from_file_location(f"recorded_{name}", MODELS / name / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(MODELS))
    return module.load()


def json_request(name: str, rows: Any, **more: Any) -> bytes:
    """A V2 request of these rows for a shipped model."""
    (spec,) = loaded(name, 1).session.signature.inputs
    tensor = {"name": spec.name, "shape": list(rows.shape), "datatype": spec.datatype, "data": rows.ravel().tolist()}
    return orjson.dumps({"inputs": [tensor], **more})


class Recording:
    """Predictions, feedback and mirrors of one model, one a second from `NOON_NS` on, to be written to a folder."""

    def __init__(self, model: str = "digits") -> None:
        self.model = model
        self.lines: dict[str, list[bytes]] = {PREDICTIONS: [], FEEDBACK: [], MIRRORS: []}
        self.clock_ns = NOON_NS
        self._count = itertools.count(1)
        settings = MODELS / model / "model.yaml"
        self._modality = yaml.safe_load(settings.read_text())["modality"] if settings.exists() else None

    def predict(
        self, body: bytes, version: int = 1, *, json_length: int | None = None, media: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """Answer a request as the gateway does, and record it; `more` is put into the record."""
        one = loaded(self.model, version)
        if media is None:
            request = decode_request(body, json_length)
            text = body[:json_length]
            asked = {"request": orjson.loads(text)}
            if json_length is not None:
                asked["request_binary"] = _base64(body[json_length:])
        else:
            request = decode_raw(body, one.session.signature.inputs[0])
            asked = {"request": None, "request_binary": _base64(body), "request_media": media}
        feeds = one.session.signature.bind(request)
        outputs = one.session.run(feeds)
        response = self._response(one, version, request, outputs)
        encoded = encode_response(response)
        answered: dict[str, Any] = {"response": orjson.loads(encoded.body[: encoded.json_length])}
        if encoded.json_length is not None:
            answered["response_binary"] = _base64(encoded.body[encoded.json_length :])
        scores = outputs[1]
        predicted = int(np.argmax(scores)) if scores is not None and len(scores) == 1 else None
        facts = {"version": version, "model_sha256": one.sha256, "predicted": predicted}
        return self.record(**{**facts, **asked, **answered, **more})

    def record(self, **fields: Any) -> dict[str, Any]:
        """Record a prediction that `fields` describe."""
        record = {
            "kind": "prediction",
            "prediction_id": f"p{next(self._count)}",
            "time_ns": self._tick(),
            "model": self.model,
            "version": 1,
            "model_sha256": "0" * 64,
            "variant": "stable",
            "route": "everyone",
            "propensity": 0.05 if fields.get("variant") == "candidate" else 0.95,
            "weight_ppm": 50_000,
            "bucket": self.clock_ns // STEP_NS % 1_000_000,
            "salt": f"{self.model}-2",
            "generation": 1,
            "customer": "acme",
            "modality": self._modality,
            "outcome": "ok",
            "rescued_from": None,
            "rescue_reason": None,
            "latency_us": 800,
            "queue_us": 40,
            "batch": 1,
            "predicted": None,
            **fields,
        }
        return self.write(PREDICTIONS, record)

    def feedback(self, prediction: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Record feedback on a prediction."""
        return self.write(
            FEEDBACK,
            {
                "kind": "feedback",
                "prediction_id": prediction["prediction_id"],
                "time_ns": self._tick(),
                "model": self.model,
                "version": prediction["version"],
                "variant": prediction["variant"],
                "truth": None,
                "truth_class": None,
                "reward": None,
                "metrics": None,
                "comment": None,
                "customer": prediction["customer"],
                "correct": None,
                **fields,
            },
        )

    def judge(self, prediction: dict[str, Any], truth: int, **fields: Any) -> dict[str, Any]:
        """Record which class was right."""
        correct = prediction["predicted"] == truth
        return self.feedback(prediction, truth=truth, truth_class=truth, correct=correct, **fields)

    def mirror(self, prediction: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Record the candidate's answer to a request that stable has answered."""
        record = {
            "kind": "mirror",
            "prediction_id": prediction["prediction_id"],
            "time_ns": self._tick(),
            "model": self.model,
            "version": 2,
            "model_sha256": "0" * 64,
            "agreement": None,
            "distance": None,
            "predicted": None,
            "response": None,
            **fields,
        }
        return self.write(MIRRORS, record)

    def write(self, stream: str, record: dict[str, Any]) -> dict[str, Any]:
        """Append a line."""
        self.lines[stream].append(orjson.dumps(record) + b"\n")
        return record

    def save(self, folder: Path, lines_per_segment: int = 100) -> Path:
        """Write the segments; the last one of each stream is open."""
        folder.mkdir(parents=True, exist_ok=True)
        for stream, lines in self.lines.items():
            starts = range(0, len(lines), lines_per_segment)
            for number, start in enumerate(starts, 1):
                path = segment_path(folder, stream, number, open=number == len(starts))
                path.write_bytes(b"".join(lines[start : start + lines_per_segment]))
        return folder

    def _tick(self) -> int:
        self.clock_ns += STEP_NS
        return self.clock_ns

    def _response(self, one: LoadedVersion, version: int, request: InferRequest, outputs: list[Any]) -> InferResponse:
        signature = one.session.signature
        tensors = [
            Tensor(signature.outputs[position].name, signature.outputs[position].datatype, outputs[position])
            for position in signature.positions(request.outputs)
        ]
        wanted = {output.name: output for output in request.outputs or ()}
        prediction = one.settings.main_prediction
        labels = prediction.labels if prediction else ()
        tensors = [
            classify(tensor, wanted[tensor.name].classification, labels)
            if tensor.name in wanted and wanted[tensor.name].classification
            else tensor
            for tensor in tensors
        ]
        binary = frozenset(tensor.name for tensor in tensors) if request.binary_output else frozenset()
        return InferResponse(self.model, str(version), tensors, request.id, {"prediction_id": "-"}, binary)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
