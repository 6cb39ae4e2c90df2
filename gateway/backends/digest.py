"""Computes the digest that identifies a model version in records: it covers every file that the version reads."""

import filecmp
import hashlib
import os
from pathlib import Path

from gateway.backends.onnx_file import read_onnx_file
from gateway.errors import ModelUnavailable


def digest_of(model: Path) -> str:
    """The SHA-256 digest, in hexadecimal, of a model file and, if weights are in other files, of their names and
    content.

    Reads all files: call it in a thread. Raises ModelUnavailable that names a missing file.
    """
    plain = _sha256(model)
    external = read_onnx_file(model).external
    if not external:
        return plain
    lines = [plain, *(f"{_sha256(_weights(model, name))} {name}" for name in external)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def is_same_model(one: Path, other: Path) -> bool:
    """Whether two model files, and the files that hold their weights, are the same; False if one cannot be read. Reads
    only up to the first difference.
    """
    try:
        return filecmp.cmp(one, other, shallow=False) and all(
            filecmp.cmp(_weights(one, name), _weights(other, name), shallow=False)
            for name in read_onnx_file(one).external
        )
    except (OSError, ModelUnavailable):
        return False


def refuse_outside(model: Path) -> None:
    """Raise ModelUnavailable if a name of weights leads out of the version's folder, before anything opens the file:
    not every release of ONNX Runtime refuses that.
    """
    try:
        external = read_onnx_file(model).external
    except (ModelUnavailable, OSError):
        return
    for name in external:
        if leads_out(name):
            shown = name.encode(errors="replace").decode()
            raise ModelUnavailable(
                f"{model}: '{shown}', which holds weights of it, leads out of {model.parent}: put it there, and name it"
                " without a path, or export the model with its weights inside"
            )


def leads_out(name: str) -> bool:
    """Whether a name of weights is outside of the version's folder."""
    return os.path.isabs(name) or os.path.normpath(name).split("/")[0] == ".."


def missing_weights(model: Path) -> ModelUnavailable | None:
    """The error for the first missing file of weights; None if none is missing, or the model file cannot be read."""
    try:
        external = read_onnx_file(model).external
    except (ModelUnavailable, OSError):
        return None
    return next((_missing(model, name) for name in external if not (model.parent / name).is_file()), None)


def _weights(model: Path, name: str) -> Path:
    file = model.parent / name
    if not file.is_file():
        raise _missing(model, name)
    return file


def _missing(model: Path, name: str) -> ModelUnavailable:
    shown = name.encode(errors="replace").decode()
    return ModelUnavailable(
        f"{model}: '{shown}', which holds weights of it, is missing: put it into {model.parent}, or export the model"
        " with its weights inside"
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
