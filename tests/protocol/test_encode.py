"""Encoding responses: what a client reads is what the model returned."""

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gateway.errors import InvalidRequest
from gateway.protocol.classification import classify
from gateway.protocol.decode import decode_request
from gateway.protocol.encode import encode_response
from gateway.protocol.tensors import DATATYPES, Array, InferResponse, Tensor


def response(*tensors: Tensor, binary: frozenset[str] = frozenset()) -> InferResponse:
    return InferResponse("m", "1", tensors, binary=binary)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    name = draw(st.sampled_from(sorted(DATATYPES)))
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    if name != "BYTES":
        return Tensor("t", name, draw(npst.arrays(DATATYPES[name].dtype, shape)))
    size = int(np.prod(shape))
    array = np.empty(size, object)
    array[:] = draw(st.lists(st.text(st.characters(codec="utf-8")), min_size=size, max_size=size))
    return Tensor("t", name, array.reshape(shape))


def same(left: Array, right: Array) -> bool:
    if left.dtype.kind == "f":
        return bool(np.array_equal(left, right, equal_nan=True))
    texts = [[item.decode() if isinstance(item, bytes) else item for item in array.ravel()] for array in (left, right)]
    return left.shape == right.shape and texts[0] == texts[1]


@given(tensors(), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine, too
def test_encoded_tensor_decodes_to_the_same(tensor: Tensor, binary: bool) -> None:
    encoded = encode_response(response(tensor, binary=frozenset("t" if binary else "")))
    document = json.loads(encoded.body[: encoded.json_length])
    as_request = json.dumps({"inputs": document["outputs"]}).encode()
    if binary:
        read = decode_request(as_request + encoded.body[encoded.json_length :], len(as_request))
    else:
        assert encoded.json_length is None
        read = decode_request(as_request)
    assert same(read.inputs[0].data, tensor.data)
    assert read.inputs[0].datatype == tensor.datatype


def test_non_finite_numbers_are_encoded_as_strings() -> None:
    array = np.array([[math.nan, math.inf], [-math.inf, 0.5]], np.float32)
    document = json.loads(encode_response(response(Tensor("y", "FP32", array))).body)
    assert document["outputs"][0]["data"] == ["NaN", "Infinity", "-Infinity", 0.5]


def test_string_null_is_kept() -> None:
    tensor = Tensor("y", "BYTES", np.array(["null"], object))
    finite = Tensor("z", "FP32", np.array([0.1], np.float32))
    document = json.loads(encode_response(response(tensor, finite)).body)
    assert document["outputs"][0]["data"] == ["null"]
    assert np.float32(document["outputs"][1]["data"][0]) == np.float32(0.1)


def test_binary_outputs_follow_the_json_in_order() -> None:
    first = Tensor("a", "INT16", np.array([1, 2], np.int16))
    second = Tensor("b", "BYTES", np.array(["é"], object))
    middle = Tensor("c", "FP32", np.array([1.0], np.float32))
    encoded = encode_response(response(first, middle, second, binary=frozenset({"a", "b"})))
    outputs = json.loads(encoded.body[: encoded.json_length])["outputs"]
    assert [output.get("parameters") for output in outputs] == [{"binary_data_size": 4}, None, {"binary_data_size": 6}]
    assert [("data" in output) for output in outputs] == [False, True, False]
    assert encoded.json_length is not None
    assert encoded.body[encoded.json_length :] == struct.pack("<hh", 1, 2) + struct.pack("<I", 2) + "é".encode()


def test_array_in_column_order_is_encoded_in_row_order() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    for binary in (frozenset[str](), frozenset({"y"})):
        encoded = encode_response(response(Tensor("y", "FP32", array), binary=binary))
        if binary:
            assert encoded.body[encoded.json_length :] == array.tobytes(order="C")
        else:
            assert json.loads(encoded.body)["outputs"][0]["data"] == [0, 1, 2, 3, 4, 5]


def test_bytes_that_are_not_utf8_require_binary_output() -> None:
    array = np.array([b"\xff"], object)
    with pytest.raises(InvalidRequest, match=r"'y'.*binary_data"):
        encode_response(response(Tensor("y", "BYTES", array)))


def test_classify_returns_the_highest_scores_with_labels() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.0, 0.5]], np.float32)
    result = classify(Tensor("p", "FP32", scores), 2, ["no", "yes", "perhaps"])
    assert result.datatype == "BYTES"
    assert result.data.tolist() == [
        ["0.700000:1:yes", "0.200000:2:perhaps"],
        ["0.500000:0:no", "0.500000:2:perhaps"],
    ]
    assert classify(Tensor("p", "FP32", scores[0]), 9, []).data.tolist() == ["0.700000:1", "0.200000:2", "0.100000:0"]


def test_classify_refuses_strings() -> None:
    with pytest.raises(InvalidRequest, match="'p'"):
        classify(Tensor("p", "BYTES", np.array(["a"], object)), 1, [])
