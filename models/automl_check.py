"""Whether the ONNX file answers as the learner does in Python, and how right it is on held-out rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from automl_features import Encoder, encode
from automl_rows import Labelled, Rows, Target
from automl_signature import Role, Signature

CLOSE = 1e-4  # how far ONNX Runtime's 32-bit sums may be off: of a score, or of the numbers' standard deviation
FIGURES = ("held_out_accuracy", "held_out_log_loss", "held_out_mae", "held_out_rmse", "held_out_r2")


@dataclass(frozen=True, slots=True)
class Trained:
    """A learner with the encoders before it. `classes`: the indices of the labels that it tells apart."""

    model: Any
    encoders: Sequence[Encoder]
    classes: Sequence[int]
    target: Target

    def answers(self, rows: Rows) -> Any:
        """In Python: scores [rows, labels], or numbers [rows]."""
        features = encode(self.encoders, rows.inputs)
        if self.target.labels is None:
            return np.asarray(self.model.predict(features), np.float64).ravel()
        scores = np.zeros((len(features), len(self.target.labels)))
        scores[:, list(self.classes)] = self.model.predict_proba(features)
        return scores


def check_same(trained: Trained, model: bytes, signature: Signature, labelled: Labelled) -> None:
    """End the script unless ONNX Runtime answers as Python does: for held-out rows, those trained on, and an empty."""
    inputs = labelled.train.inputs
    nothing = Rows({name: np.zeros_like(values[:1]) for name, values in inputs.items()}, labelled.train.truths[:1])
    for name, values in nothing.inputs.items():
        nothing.inputs[name][:] = "" if values.dtype == object else np.nan if values.dtype.kind == "f" else 0
    deviation = float(np.std(labelled.train.truths)) if trained.target.labels is None else 1.0
    for what, rows in (
        ("held-out rows", labelled.held_out),
        ("rows trained on", labelled.train),
        ("row without values", nothing),
    ):
        python, answers = trained.answers(rows), _run(model, signature, rows)
        differs = np.zeros(len(rows), bool)
        for port, role in signature.outputs:
            differs |= _differs(answers[port.name], role, python, trained.target, CLOSE * deviation)
        if differs.any():
            raise SystemExit(
                f"ONNX Runtime answers {differs.sum():,} of {len(rows):,} {what} otherwise than Python does, so nothing"
                " is written; try another --seed or --metric"
            )


def figures_of(model: bytes | str, signature: Signature, rows: Rows, target: Target) -> dict[str, float]:
    """How right a version is on these rows: accuracy and, of scores, log loss; or the errors of its numbers."""
    answers = _run(model, signature, rows)
    port, role = min(signature.outputs, key=lambda output: list(Role).index(output[1]))
    said, truths = answers[port.name], rows.truths
    if target.labels is None:
        errors = said.ravel().astype(np.float64) - truths
        squares = float(np.sum((truths - truths.mean()) ** 2))
        return {
            "held_out_mae": _rounded(np.abs(errors).mean()),
            "held_out_rmse": _rounded(np.sqrt((errors**2).mean())),
            "held_out_r2": _rounded(1 - (errors**2).sum() / squares) if squares else 0.0,
        }
    classes = _classes(said, role, target.labels)
    figures = {"held_out_accuracy": _rounded((classes == truths).mean())}
    if role is Role.SCORES:
        right = said[np.arange(len(truths)), truths].astype(np.float64)
        figures["held_out_log_loss"] = _rounded(-np.log(np.clip(right, 1e-15, 1)).mean())
    return figures


def _run(model: bytes | str, signature: Signature, rows: Rows) -> Mapping[str, Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {
        port.name: rows.inputs[port.name].ravel() if len(port.shape) == 1 else rows.inputs[port.name]
        for port in signature.inputs
    }
    names = [port.name for port, _ in signature.outputs]
    return {name: _tensor(answer) for name, answer in zip(names, session.run(names, feeds), strict=True)}


def _tensor(answer: Any) -> Any:
    """An output as a tensor; a ZipMap's is a list with the scores of each row by class."""
    return np.array([list(row.values()) for row in answer]) if isinstance(answer, list) else answer


def _differs(said: Any, role: Role, python: Any, target: Target, close: float) -> Any:
    """Which rows differ, [rows]. Classes whose scores are as close as rounding may come in either order."""
    if role is Role.NUMBER:
        return ~(np.abs(said.ravel() - python) <= close + CLOSE * np.abs(python))
    if role is Role.SCORES:
        return ~(np.abs(said - python) <= close).all(axis=1)
    if role is Role.SCORE:
        return ~(np.abs(said.ravel() - python[:, 1]) <= close)
    assert target.labels is not None
    classes = _classes(said, role, target.labels)
    return (classes < 0) | (python.max(axis=1) - python[np.arange(len(python)), classes] > 2 * close)


def _classes(said: Any, role: Role, labels: Sequence[str]) -> Any:
    """The classes' indices, [rows]; -1 for a name that is no label."""
    if role is Role.SCORES:
        return said.argmax(axis=1)
    if role is Role.SCORE:
        return (said.ravel() >= 0.5).astype(np.int64)
    if said.dtype != object:
        return said.ravel().astype(np.int64)
    places = {label: place for place, label in enumerate(labels)}
    return np.array([places.get(name, -1) for name in said.ravel()])


def _rounded(value: Any) -> float:
    return round(float(value), 4)
