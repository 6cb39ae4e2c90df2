"""The inputs and outputs that a new version must have: those of a version that is there, or of what was recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from automl_rows import Column, Target

# By ONNX Runtime's names and by those of the Open Inference Protocol.
DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8, "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32,
    "tensor(bool)": np.bool_, "tensor(string)": object,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
    "INT64": np.int64, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "BOOL": np.bool_, "BYTES": object,
}  # fmt: skip
REMEDY = "train such a model with a script of its own, such as models/digits/train.py"


class Role(StrEnum):
    """What an output says about each row."""

    SCORES = "a score for each class"
    SCORE = "the second class's score"
    LABEL = "the class"
    NUMBER = "the number"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. `shape`: its dimensions, the rows first; None where any size fits."""

    name: str
    dtype: Any
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """`outputs`: each with its role. `version`: the version it is from; None: from the records."""

    inputs: Sequence[Port]
    outputs: Sequence[tuple[Port, Role]]
    version: int | None = None

    def columns(self, manifest: Mapping[str, Any]) -> list[Column]:
        """Where the export has the inputs. Ends the script where it has not."""
        return [_column(port, manifest) for port in self.inputs]


def signature_of(file: Path, target: Target) -> Signature:
    """Read it from a version's model.onnx. Ends the script if it is not that of a table."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs = [_port(argument.name, argument.type, argument.shape) for argument in session.get_inputs()]
    outputs = [_port(argument.name, argument.type, argument.shape) for argument in session.get_outputs()]
    for port in inputs:
        _check_input(port)
    return Signature(inputs, [(port, _role(port, target)) for port in outputs], int(file.parent.name))


def signature_of_records(manifest: Mapping[str, Any], target: Target) -> Signature:
    """For a model without a model.onnx here: the inputs that were recorded, and outputs like the shipped models'."""
    inputs = [
        Port(tensor["tensor"], DTYPES[tensor["datatype"]], (None, None))
        for tensor in manifest["tensors"].values()
        if tensor["side"] == "input" and tensor["datatype"] in DTYPES
    ]
    if not inputs:
        raise SystemExit("the export has no inputs: the gateway records them with `records.inputs: full`")
    if target.labels is None:
        number = Port(target.output or "prediction", np.float32, (None, 1))
        return Signature(inputs, [(number, Role.NUMBER)])
    scores = Port(target.output or "probabilities", np.float32, (None, len(target.labels)))
    label = Port("label" if scores.name != "label" else "class", np.int64, (None,))
    return Signature(inputs, [(label, Role.LABEL), (scores, Role.SCORES)])


def _port(name: str, kind: str, shape: Sequence[Any]) -> Port:
    if kind.startswith("seq(map(") and kind.endswith("tensor(float)))"):  # ZipMap; the gateway serves it as a tensor
        return Port(name, np.float32, (None, None))
    if kind not in DTYPES:
        raise SystemExit(f"'{name}' is {kind}, and AutoML takes and gives tensors of numbers or strings; {REMEDY}")
    return Port(name, DTYPES[kind], tuple(size if isinstance(size, int) else None for size in shape))


def _check_input(port: Port) -> None:
    if len(port.shape) not in (1, 2):
        shape = ["-1" if size is None else str(size) for size in port.shape]
        raise SystemExit(
            f"input '{port.name}' has the shape [{', '.join(shape)}], such as of an image, and AutoML takes tables:"
            f" [rows, values]; {REMEDY}"
        )


def _role(port: Port, target: Target) -> Role:
    is_float = port.dtype in (np.float16, np.float32, np.float64)
    width = 1 if len(port.shape) == 1 else port.shape[-1] if len(port.shape) == 2 else 0
    if target.labels is None:
        if is_float and width in (1, None):
            return Role.NUMBER
    elif is_float and len(port.shape) == 2 and width in (None, len(target.labels)):
        return Role.SCORES
    elif is_float and width == 1 and len(target.labels) == 2:
        return Role.SCORE
    elif not is_float and port.dtype is not np.bool_ and width == 1:
        return Role.LABEL
    what = "the number" if target.labels is None else f"the class, or scores of {len(target.labels)} classes"
    raise SystemExit(
        f"output '{port.name}' is {np.dtype(port.dtype)} {list(port.shape)}, and a version by AutoML can only say"
        f" {what}; give `prediction` in model.yaml its `kind` and `labels`, or {REMEDY}"
    )


def _column(port: Port, manifest: Mapping[str, Any]) -> Column:
    for name, tensor in manifest["tensors"].items():
        if tensor["side"] == "input" and tensor["tensor"] == port.name and DTYPES.get(tensor["datatype"]) is port.dtype:
            if "binary" in manifest["columns"][name]:
                raise SystemExit(f"input '{port.name}' holds bytes that are no text, such as of an image; {REMEDY}")
            return Column(port.name, name, port.dtype)
    raise SystemExit(
        f"the export has no input '{port.name}' of the type that version takes: the gateway records inputs with"
        " `records.inputs: full`; --like chooses another version"
    )
