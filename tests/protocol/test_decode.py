"""Decoding request bodies: accepted values keep their value, a refusal says which tensor and why."""

import gzip
import json
import math
import struct
from typing import Any

import numpy as np
import pytest

from gateway.errors import InvalidRequest
from gateway.protocol.decode import decode_raw, decode_request
from gateway.protocol.tensors import DATATYPES, TensorSpec


def body(**changes: Any) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]} | changes
    return json.dumps({"inputs": [{key: value for key, value in tensor.items() if value is not ...}]}).encode()


EXTREMES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    **{f"UINT{bits}": [0, 2**bits - 1] for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    "FP16": [65504.0, -0.5],
    "FP32": [float(np.float32(3.4028235e38)), -1.5],
    "FP64": [1.7976931348623157e308, 5e-324],
    "BYTES": ["", "é客\x00"],
}


def test_extremes_cover_every_datatype() -> None:
    assert EXTREMES.keys() == DATATYPES.keys()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_json_elements_keep_their_value(datatype: str) -> None:
    tensor = decode_request(body(datatype=datatype, data=EXTREMES[datatype])).inputs[0]
    assert tensor.data.dtype == DATATYPES[datatype].dtype
    assert tensor.data.tolist() == EXTREMES[datatype]


@pytest.mark.parametrize("datatype", sorted(DATATYPES.keys() - {"BYTES"}))
def test_binary_elements_keep_their_value(datatype: str) -> None:
    raw = np.array(EXTREMES[datatype], DATATYPES[datatype].dtype).tobytes()
    header = body(datatype=datatype, data=..., parameters={"binary_data_size": len(raw)})
    tensor = decode_request(header + raw, len(header)).inputs[0]
    assert tensor.data.tolist() == EXTREMES[datatype]
    assert tensor.data.flags.aligned


def test_binary_bytes_elements_keep_their_value() -> None:
    raw = struct.pack("<I2sI3s", 2, b"\xff\x00", 3, b"abc")
    header = body(datatype="BYTES", data=..., parameters={"binary_data_size": len(raw)})
    assert decode_request(header + raw, len(header)).inputs[0].data.tolist() == [b"\xff\x00", b"abc"]


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2, 2], [1, 2, 3, 4]),
        ([2, 2], [[1, 2], [3, 4]]),
        ([1, 2, 2], [[[1, 2], [3, 4]]]),
        ([4], [1, 2, 3, 4]),
        ([0], []),
        ([0, 3], []),
        ([2, 0], [[], []]),
        ([], [5]),
        ([], 5),
    ],
)
def test_flat_and_nested_data_are_accepted(shape: list[int], data: Any) -> None:
    array = decode_request(body(shape=shape, data=data)).inputs[0].data
    assert array.shape == tuple(shape)
    assert array.ravel().tolist() == np.array(data).ravel().tolist()


def test_non_finite_numbers_are_accepted_as_strings() -> None:
    array = decode_request(body(shape=[4], data=["NaN", "Infinity", "-Infinity", 1.5])).inputs[0].data
    assert math.isnan(array[0])
    assert array[1:].tolist() == [math.inf, -math.inf, 1.5]


# what is wrong, what the message must contain
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": 5}, ["inputs[0]", "name"]),
    ({"name": ""}, ["inputs[0]", "name"]),
    ({"datatype": "FP99"}, ["'x'", "FP99", "FP32"]),
    ({"datatype": None}, ["'x'", "datatype"]),
    ({"shape": ...}, ["'x'", "shape"]),
    ({"shape": 2}, ["'x'", "shape"]),
    ({"shape": [-2]}, ["'x'", "-2"]),
    ({"shape": [2.0]}, ["'x'", "2.0"]),
    ({"shape": [True, 2]}, ["'x'", "[true, 2]"]),
    ({"shape": ["2"]}, ["'x'", "'2'"]),
    ({"shape": [1] * 33}, ["'x'", "32"]),
    ({"shape": [2**31, 2**31, 2**31], "data": [1, 2]}, ["'x'", "needs", "2"]),
    ({"shape": [0, 2**62, 2**62], "data": []}, ["'x'", "shape"]),
    ({"shape": [0, 10**25], "data": []}, ["'x'", "shape"]),
    ({"datatype": "BYTES", "shape": [0, 2**62, 2**62], "data": []}, ["'x'", "shape"]),
    ({"shape": [3]}, ["'x'", "needs 3 elements", "data has 2"]),
    ({"shape": [2, 2], "data": [[1, 2], [3]]}, ["'x'", "nested"]),
    ({"shape": [2, 2], "data": [[1, 2], 3]}, ["'x'", "ragged"]),
    ({"shape": [2], "data": [[1, 2]]}, ["'x'", "nested"]),
    ({"shape": [2, 1], "data": [[[1]], [[2]]]}, ["'x'", "data[0]", "[1]"]),
    ({"data": {"0": 1}}, ["'x'", "list"]),
    ({"data": None}, ["'x'", "list"]),
    ({"data": ...}, ["'x'", "neither data nor"]),
    ({"data": [1, None]}, ["'x'", "data[1]", "null", "FP32"]),
    ({"data": [1, "2"]}, ["'x'", "data[1]", "'2'"]),
    ({"data": [1, [2]]}, ["'x'", "data[1]"]),
    ({"data": [1, 1e39]}, ["'x'", "data[1]", "1e+39", "FP32"]),
    ({"datatype": "FP16", "data": [1, 70000]}, ["'x'", "70000", "FP16"]),
    ({"datatype": "INT32", "data": [1, 1.5]}, ["'x'", "1.5", "INT32"]),
    ({"datatype": "INT8", "data": [1, 300]}, ["'x'", "300", "INT8"]),
    ({"datatype": "INT64", "data": [1, 2**63]}, ["'x'", "INT64"]),
    ({"datatype": "UINT8", "data": [1, -1]}, ["'x'", "-1", "UINT8"]),
    ({"datatype": "INT32", "data": [1, "NaN"]}, ["'x'", "'NaN'", "INT32"]),
    ({"datatype": "BOOL", "data": [True, 2]}, ["'x'", "2", "BOOL"]),
    ({"datatype": "BYTES", "data": ["a", 1]}, ["'x'", "data[1]", "string"]),
    ({"parameters": []}, ["'x'", "parameters"]),
    ({"parameters": {"binary_data_size": 8}}, ["'x'", "both"]),
    ({"data": ..., "parameters": {"binary_data_size": 8}}, ["'x'", "Inference-Header-Content-Length"]),
    ({"data": ..., "parameters": {"shared_memory_region": "r"}}, ["'x'", "shared memory"]),
]


@pytest.mark.parametrize(("changes", "says"), REFUSED)
def test_unfitting_tensor_is_refused_by_name(changes: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decode_request(body(**changes))
    for part in says:
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "JSON"),
        (b'{"inputs": [', "JSON"),
        (b"\xff\xfe", "JSON"),
        (b'{"inputs": [{"name": "\xff"}]}', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "inputs"),
        (b'{"inputs": []}', "inputs"),
        (b'{"inputs": {}}', "inputs"),
        (b'{"inputs": [5]}', "inputs[0]"),
    ],
)
def test_body_that_is_not_a_request_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says.replace("[", r"\[").replace("]", r"\]")):
        decode_request(text)


@pytest.mark.parametrize(
    ("request_changes", "says"),
    [
        ({"id": 5}, "id"),
        ({"parameters": 5}, "parameters"),
        ({"parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
        ({"parameters": {"sequence_id": 7}}, "sequences"),
        ({"outputs": [], "parameters": {}}, None),
        ({"outputs": {"a": 1}}, "outputs"),
        ({"outputs": [5]}, r"outputs\[0\]"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "'y' is listed 2 times"),
        ({"outputs": [{"name": "y", "parameters": {"classification": -1}}]}, "classification"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "binary_data"),
    ],
)
def test_fields_around_the_tensors_are_checked(request_changes: dict[str, Any], says: str | None) -> None:
    document = json.dumps(json.loads(body()) | request_changes).encode()
    if says is None:
        assert decode_request(document).outputs is None
        return
    with pytest.raises(InvalidRequest, match=says):
        decode_request(document)


def test_input_listed_twice_is_refused() -> None:
    document = json.loads(body())
    document["inputs"] *= 2
    with pytest.raises(InvalidRequest, match="inputs: 'x' is listed 2 times"):
        decode_request(json.dumps(document).encode())


def test_outputs_keep_their_own_binary_flag() -> None:
    document = json.loads(body()) | {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False, "classification": 3}}],
    }
    request = decode_request(json.dumps(document).encode())
    assert request.binary_output
    assert request.outputs is not None
    assert [(output.name, output.binary, output.classification) for output in request.outputs] == [
        ("a", None, 0),
        ("b", False, 3),
    ]


@pytest.mark.parametrize(
    ("size", "tail", "says"),
    [
        (8, 7, "only 7 bytes are left"),
        (8, 9, "1 bytes after the JSON belong to no tensor"),
        (7, 7, "needs 8 bytes"),
        (-1, 8, "binary_data_size"),
        ("8", 8, "binary_data_size"),
        (10**30, 8, "binary_data_size"),
    ],
)
def test_wrong_binary_data_size_is_refused(size: Any, tail: int, says: str) -> None:
    header = body(data=..., parameters={"binary_data_size": size})
    with pytest.raises(InvalidRequest, match=says):
        decode_request(header + bytes(tail), len(header))


@pytest.mark.parametrize("length", [10**9, -1])
def test_json_length_beyond_the_body_is_refused(length: int) -> None:
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        decode_request(body(), length)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (struct.pack("<I", 5) + b"abc", "reaches beyond"),
        (struct.pack("<I", 2**32 - 1), "reaches beyond"),
        (b"\x01\x00", "at least 4 bytes"),
        (struct.pack("<I1sI", 1, b"a", 0), "4 bytes follow the last"),
    ],
)
def test_wrong_lengths_of_bytes_elements_are_refused(raw: bytes, says: str) -> None:
    header = body(datatype="BYTES", shape=[1], data=..., parameters={"binary_data_size": len(raw)})
    with pytest.raises(InvalidRequest, match=says):
        decode_request(header + raw, len(header))


def test_large_shape_allocates_nothing_before_its_size_is_checked() -> None:
    header = body(datatype="BYTES", shape=[2**40], data=..., parameters={"binary_data_size": 4})
    with pytest.raises(InvalidRequest, match="need at least"):
        decode_request(header + bytes(4), len(header))


def test_bool_byte_other_than_0_or_1_is_refused() -> None:
    header = body(datatype="BOOL", data=..., parameters={"binary_data_size": 2})
    with pytest.raises(InvalidRequest, match="BOOL byte must be 0 or 1, found 7"):
        decode_request(header + b"\x00\x07", len(header))


@pytest.mark.parametrize(
    ("spec", "raw", "shape"),
    [
        (TensorSpec("x", "FP32", (-1, 2)), bytes(24), (3, 2)),
        (TensorSpec("x", "FP32", (2, 2)), bytes(16), (2, 2)),
        (TensorSpec("x", "INT8", ()), bytes(1), ()),
        (TensorSpec("x", "BYTES", (-1,)), b"\x89PNG\x00", (1,)),
        (TensorSpec("x", "BYTES", (-1, 1)), b"text", (1, 1)),
    ],
)
def test_raw_body_is_decoded(spec: TensorSpec, raw: bytes, shape: tuple[int, ...]) -> None:
    tensor = decode_raw(raw, spec).inputs[0]
    assert tensor.data.shape == shape
    assert tensor.data.tobytes() == raw if spec.datatype != "BYTES" else tensor.data.item() == raw


@pytest.mark.parametrize(
    ("spec", "size", "says"),
    [
        (TensorSpec("x", "FP32", (-1, 2)), 12, "multiple of 8 bytes"),
        (TensorSpec("x", "FP32", (2, 2)), 12, "needs 16 bytes"),
        (TensorSpec("x", "FP32", (-1, -1)), 16, "2 free dimensions"),
        (TensorSpec("x", "FP32", (-1, 0)), 16, "shape"),
        (TensorSpec("x", "BYTES", (2,)), 16, "one element"),
    ],
)
def test_raw_body_of_a_wrong_size_is_refused(spec: TensorSpec, size: int, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        decode_raw(bytes(size), spec)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (gzip.compress(b"{}", mtime=0), "a compressed body needs the header content-encoding: gzip"),
        (b'{"instances": [[1]]}', '"inputs" is missing'),
        (b'{"inputs": {}}', '"inputs" must be a list'),
        (b'{"inputs": [1], "id": 5}', '"id" must be a string, got 5'),
        (b'{"inputs": [1], "id": true}', '"id" must be a string, got true'),
    ],
)
def test_body_of_a_wrong_form_is_refused_with_the_remedy(text: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decode_request(text)
    assert says in str(refusal.value)
