"""JSON nested deeper than records can hold is refused, wherever it stands; tensor data has its own limit."""

import math
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.errors import InvalidRequest
from gateway.protocol.classification import classify
from gateway.protocol.decode import decode_document, decode_request
from gateway.protocol.depth import MAX_DEPTH
from gateway.protocol.tensors import Tensor

X: dict[str, Any] = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
BINARY: dict[str, Any] = {"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}


def nested(depth: int, *, objects: bool = False) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if objects else [value]
    return value


def with_parameter(item: dict[str, Any], value: Any) -> dict[str, Any]:
    return {**item, "parameters": {**item.get("parameters", {}), "p": value}}


PLACES = {
    "parameters.p": lambda value: {"inputs": [X], "parameters": {"p": value}},
    "parameters.parameters": lambda value: {"inputs": [X], "parameters": {"parameters": value}},
    "parameters.data": lambda value: {"inputs": [X], "parameters": {"data": value}},
    "inputs[0] 'x': parameters.p": lambda value: {"inputs": [with_parameter(X, value)]},
    "inputs[0] 'x': strange": lambda value: {"inputs": [{**X, "strange": value}]},
    "outputs[1] 'z': parameters.p": lambda value: {
        "inputs": [X], "outputs": [{"name": "y"}, with_parameter({"name": "z"}, value)]
    },
    "outputs[0] 'y': data": lambda value: {"inputs": [X], "outputs": [{"name": "y", "data": value}]},
    "strange": lambda value: {"inputs": [X], "strange": value},
    "data": lambda value: {"inputs": [X], "data": value},
}  # fmt: skip


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_depth_limit_holds_everywhere_and_names_the_place(place: str, objects: bool) -> None:
    decode_request(orjson.dumps(PLACES[place](nested(MAX_DEPTH, objects=objects))))
    for depth in (MAX_DEPTH + 1, 200):
        with pytest.raises(InvalidRequest) as refused:
            decode_request(orjson.dumps(PLACES[place](nested(depth, objects=objects))))
        assert str(refused.value).startswith(f"{place} is nested too deeply: at most 32 levels")


@pytest.mark.parametrize("depth", [254, 1000])
def test_depth_that_is_just_parsable_is_refused(depth: int) -> None:
    body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}],"parameters":{"p":%b}}'
    with pytest.raises(InvalidRequest, match=r"parameters\.p is nested too deeply"):
        decode_request(body % (b"[" * depth + b"]" * depth))


def test_depth_limit_holds_beside_binary_tensors() -> None:
    text = orjson.dumps({"inputs": [with_parameter(BINARY, nested(MAX_DEPTH + 1))]})
    with pytest.raises(InvalidRequest, match=r"inputs\[0\] 'x': parameters\.p is nested too deeply"):
        decode_request(text + bytes(4), len(text))


def test_depth_limit_holds_in_a_body_with_bare_nan() -> None:
    text = orjson.dumps({"inputs": [X], "parameters": {"p": nested(MAX_DEPTH + 1)}}).replace(
        b'"data":[1]', b'"data":[NaN]'
    )
    with pytest.raises(InvalidRequest, match=r"parameters\.p is nested too deeply"):
        decode_request(text)


def test_deeper_recorded_request_can_still_be_read() -> None:
    assert decode_document(PLACES["parameters.p"](nested(100)), None, recorded=True).inputs[0].name == "x"


def classified(scores: Any, classes: int, *labels: str, datatype: str = "FP32", dtype: Any = np.float32) -> list[str]:
    return list(classify(Tensor("y", datatype, np.array(scores, dtype)), classes, labels).data.ravel())


def test_classify_does_not_rank_nan_as_the_best_class() -> None:
    assert classified([[0.5, math.nan, 0.75]], 3, "a", "b", "c") == ["nan:1:b", "0.750000:2:c", "0.500000:0:a"]
    assert classified([[0.5, math.nan, 0.75]], 1) == ["nan:1"]
    assert classified([[-math.inf, math.inf, 1]], 3) == ["inf:1", "1.000000:2", "-inf:0"]


def test_classify_keeps_the_order_of_equal_scores_and_large_integers() -> None:
    assert classified([[1, 2, 2, 1]], 4) == ["2.000000:1", "2.000000:2", "1.000000:0", "1.000000:3"]
    large = classified([[2**62, 2**62 + 1]], 1, datatype="INT64", dtype=np.int64)
    assert large[0].endswith(":1")
    assert classified([[0, 255]], 2, datatype="UINT8", dtype=np.uint8) == ["255.000000:1", "0.000000:0"]


def test_classify_reads_one_probability_as_two_classes() -> None:
    assert classified([[0.75]], 1, "ham", "spam") == ["0.750000:1:spam"]
    assert classified([[0.25]], 2, "ham", "spam") == ["0.750000:0:ham", "0.250000:1:spam"]
