"""Large responses encoded in pieces equal those encoded at once."""

from typing import Any

import numpy as np
import orjson
import pytest

from gateway.protocol import fragments
from gateway.protocol.decode import decode_outputs
from gateway.protocol.encode import encode_json, encode_response, parted
from gateway.protocol.fragments import outputs_json
from gateway.protocol.tensors import InferResponse, Tensor

ODD: Any = np.array([0.1, np.nan, np.inf, -np.inf, -0.0, 1e-30, 3.0])
TENSORS = {
    "FP32": np.arange(100, dtype=np.float32).reshape(10, 10) / 7,
    "FP16": np.arange(50, dtype=np.float16) / 3,
    "FP64": ODD,
    "odd FP32": ODD.astype(np.float32),
    "INT64": np.array([[2**62, -5, 0]] * 9),
    "BOOL": np.array([True, False] * 9),
    "BYTES": np.array(["null", 'a"b', "é", ""] * 5, object),
    "empty FP32": np.empty((0, 4), np.float32),
    "scalar FP32": np.array(1.5, np.float32),
    "empty BYTES": np.empty((0,), object),
}


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
@pytest.mark.parametrize("binary", [frozenset[str](), frozenset({"INT64", "BYTES"})])
def test_response_in_pieces_equals_the_whole(
    piece: int, binary: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fragments, "PIECE_ELEMENTS", piece)
    tensors = [
        Tensor(name, name.split()[-1], data, {"a": "b"} if "INT" in name else {}) for name, data in TENSORS.items()
    ]
    response = InferResponse("m", "1", tensors, "id", {"p": "q"}, binary)
    whole = encode_response(response)
    outputs, tail = parted(response)
    text, finite = outputs_json(outputs)
    joined, _ = encode_json("m", "1", "id", {"p": "q"}, orjson.Fragment(text))
    assert not finite
    if not binary:
        document, expected = orjson.loads(joined), orjson.loads(whole.body)
        assert {**document, "outputs": None} == {**expected, "outputs": None}
    raw = b"".join(tail)
    found = decode_outputs(orjson.loads(joined), raw if binary else None)
    for one, tensor in zip(found, tensors, strict=True):
        assert (one.name, one.datatype, one.data.shape) == (tensor.name, tensor.datatype, tensor.data.shape)
        assert [str(value) for value in one.data.ravel()] == [str(value) for value in tensor.data.ravel()] or binary
    assert raw == (b"" if whole.json_length is None else whole.body[whole.json_length :])


def test_outputs_json_reports_whether_numbers_are_finite() -> None:
    outputs, _ = parted(InferResponse("m", "1", [Tensor("y", "FP32", TENSORS["FP32"])], None, {}, frozenset()))
    assert outputs_json(outputs)[1]
