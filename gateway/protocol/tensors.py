"""The data types of the Open Inference Protocol: tensors, requests, responses, and the table of its datatypes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.protocol.source import RequestSource

Array = NDArray[Any]
Parameters = Mapping[str, Any]

NO_PARAMETERS: Final[Parameters] = {}


def _no_parameters() -> Parameters:
    return NO_PARAMETERS


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype of the protocol.

    `code` is the element's struct format character ("" for BYTES), `onnx` is ONNX Runtime's name of a tensor of it.
    """

    name: str
    dtype: np.dtype[Any]
    code: str
    onnx: str


DATATYPES: Final[Mapping[str, Datatype]] = {
    name: Datatype(name, np.dtype(dtype), code, f"tensor({onnx})")
    for name, dtype, code, onnx in (
        ("BOOL", "?", "?", "bool"),
        ("UINT8", "<u1", "B", "uint8"),
        ("UINT16", "<u2", "H", "uint16"),
        ("UINT32", "<u4", "I", "uint32"),
        ("UINT64", "<u8", "Q", "uint64"),
        ("INT8", "<i1", "b", "int8"),
        ("INT16", "<i2", "h", "int16"),
        ("INT32", "<i4", "i", "int32"),
        ("INT64", "<i8", "q", "int64"),
        ("FP16", "<f2", "e", "float16"),
        ("FP32", "<f4", "f", "float"),
        ("FP64", "<f8", "d", "double"),
        ("BYTES", "O", "", "string"),
    )
}
BY_ONNX_TYPE: Final[Mapping[str, Datatype]] = {datatype.onnx: datatype for datatype in DATATYPES.values()}


@dataclass(slots=True)
class Tensor:
    """A named tensor. `data` has its shape and numpy dtype; BYTES elements are `str` or `bytes` objects."""

    name: str
    datatype: str
    data: Array
    parameters: Parameters = field(default_factory=_no_parameters)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape


@dataclass(slots=True)
class RequestedOutput:
    """An output that the request lists. `binary` None: as the request's `binary_output`. `classification`: number of
    classes to return instead of the scores; 0: none.
    """

    name: str
    binary: bool | None = None
    classification: int = 0


@dataclass(slots=True)
class InferRequest:
    """One inference request. `outputs` None: the request lists none, so all are sent. `source`: what it was decoded
    from, once its prediction has begun.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[RequestedOutput] | None = None
    id: str | None = None
    parameters: Parameters = field(default_factory=_no_parameters)
    binary_output: bool = False
    source: RequestSource | None = None


@dataclass(slots=True)
class InferResponse:
    """The answer to one request. `binary`: names of the outputs to send as raw bytes after the JSON."""

    model_name: str
    model_version: str
    outputs: Sequence[Tensor]
    id: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    binary: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model's declaration of one input or output. A dimension of -1 is free. `labels`: its class names, if known."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedOutput:
    """What one output was for one row in the warm-up. `value`: the output itself if it is a single number."""

    shape: tuple[int, ...]
    value: float | None = None
