"""NaN, Infinity and -Infinity as Python's json module writes them: accepted in float tensors, nowhere else."""

import json
import math
import random
from typing import Any

import numpy as np
import pytest

from gateway.errors import InvalidRequest
from gateway.protocol import json_constants
from gateway.protocol.decode import decode_request, decode_strict, restate_request
from gateway.protocol.json_text import NotJson

FLOATS = ["FP16", "FP32", "FP64"]
SHARED = '"name": "x", "shape": [%d], "datatype": "%s"'


def tensor(data: str, datatype: str = "FP32", count: int = 1, more: str = "") -> bytes:
    return f'{{"inputs": [{{{SHARED % (count, datatype)}, "data": {data}{more}}}]}}'.encode()


def error_of(body: bytes) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        decode_request(body)
    return str(refusal.value)


@pytest.mark.parametrize("datatype", FLOATS)
def test_constants_are_accepted_in_float_tensors(datatype: str) -> None:
    sent = [math.nan, 1.5, -math.inf, math.inf, -0.0]
    array = decode_request(tensor(json.dumps(sent), datatype, 5)).inputs[0].data
    assert np.array_equal(array, np.array(sent, array.dtype), equal_nan=True)


def test_constants_are_accepted_nested_scalar_and_beside_similar_strings() -> None:
    text = ' {"id": "NaN, \\"Infinity\\\\", "inputs": [{"name": "é,NaN", "shape": [2, 1], "datatype": "FP64"'
    text += ',\n "data":[[NaN],[1]]}'
    text += ', {"name": "-Infinity", "shape": [], "datatype": "FP32", "data": -Infinity}'
    text += ', {"name": "t", "shape": [1], "datatype": "BYTES", "data": ["NaN Infinity"]}]}'
    request = decode_request(text.encode())
    assert request.id == 'NaN, "Infinity\\'
    assert [one.name for one in request.inputs] == ["é,NaN", "-Infinity", "t"]
    assert math.isnan(request.inputs[0].data[0, 0])
    assert request.inputs[1].data.tolist() == -math.inf
    assert request.inputs[2].data.tolist() == ["NaN Infinity"]


@pytest.mark.parametrize("datatype", ["[]", "{}", "null", "7", '"FP8"'])
def test_unknown_datatype_is_reported_before_the_constant(datatype: str) -> None:
    body = f'{{"inputs": [{{"name": "x", "shape": [1], "datatype": {datatype}, "data": [NaN]}}]}}'
    assert "unknown datatype" in error_of(body.encode())


@pytest.mark.parametrize("datatype", ["INT8", "INT64", "UINT32", "BOOL", "BYTES"])
@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_constants_in_tensors_of_other_datatypes_are_refused(datatype: str, name: str) -> None:
    said = error_of(tensor(f"[{name}]", datatype))
    assert ("inputs[0] 'x'" in said, f"data[0] = {name} is no" in said) == (True, True)


ELSEWHERE = [
    ('{"inputs": [], "parameters": {"a": {"b": [1, NaN]}}}', "parameters.a.b[1]: NaN"),
    ('{"id": -Infinity, "inputs": []}', "id: -Infinity"),
    ('{"inputs": NaN}', "inputs: NaN"),
    ('{"inputs": [Infinity]}', "inputs[0]: Infinity"),
    ('{"inputs": [{"name": "x", "shape": [NaN], "datatype": "FP32", "data": [1]}]}', "inputs[0].shape[0]: NaN"),
    ('{"inputs": [{"name": "x", "parameters": {"data": NaN}}]}', "inputs[0].parameters.data: NaN"),
    ('{"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": NaN}}]}', "outputs[0]"),
    ('{"data": [NaN], "inputs": []}', "data[0]: NaN"),
    ("{NaN: 1}", "as a key: NaN"),
    ("NaN", "the body: NaN"),
    ("[NaN]", "[0]: NaN"),
]


@pytest.mark.parametrize(("text", "says"), ELSEWHERE)
def test_constants_outside_tensors_are_refused_with_their_place(text: str, says: str) -> None:
    assert says in error_of(text.encode())


NO_JSON = [
    *("-NaN", "+Infinity", "nan", "inf", "NAN", "Inf", "- Infinity", "NaN5", "NaNNaN", "--Infinity", "NaN NaN"),
    *("1e999", "NaN, 1e999", "NaN,", ",NaN", "'NaN'", "NaN, nan", "NaN, x", 'NaN, "a', "-1e999, NaN", "NaN, \\ud800"),
]


@pytest.mark.parametrize("data", NO_JSON)
def test_other_spellings_are_refused(data: str) -> None:
    assert "JSON" in error_of(tensor(f"[{data}]"))


def test_position_of_a_syntax_error_is_that_in_the_original_body() -> None:
    body = tensor("[NaN, NaN, x]")
    assert f"char {body.index(b'x]')}" in error_of(body)


def test_restated_body_is_valid_json_with_the_same_meaning() -> None:
    raw = b"\x00\x00\x80\x7f"
    more = '}, {"name": "b", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}'
    text = tensor("[NaN, 2.50]", count=2, more=more)
    with pytest.raises(NotJson) as error:
        decode_strict(text + raw, len(text))
    request, body, length = restate_request(error.value, text + raw, len(text))
    assert body[length:] == raw
    assert json.loads(body[:length], parse_constant=pytest.fail)["inputs"][0]["data"] == ["NaN", 2.5]
    assert b'["NaN", 2.50]' in body, "all else is as it was received"
    again = decode_strict(body, length)
    for one, other in zip(request.inputs, again.inputs, strict=True):
        assert np.array_equal(one.data, other.data, equal_nan=True)


def test_restated_body_agrees_with_python_s_json_module() -> None:
    """Random documents, mutated: whatever is accepted means what Python's json module reads."""
    chance, pieces = (
        random.Random(11),
        ["NaN", "-Infinity", "Infinity", "1", '"NaN"', ",", "[", "]", '"', "\\", "-", " ", "é"],
    )
    taken = 0
    for _ in range(3000):
        data = "[" + ",".join(chance.choice(["NaN", "-Infinity", "Infinity", "1", "2.5"]) for _ in range(3)) + "]"
        if chance.random() < 0.7:
            at = chance.randrange(len(data))
            data = data[:at] + chance.choice(pieces) + data[at + chance.randrange(3) :]
        body = tensor(data, "FP64", 3, chance.choice(["", ', "note": "\\\\\\"NaN"', ', "note": "[NaN"']))
        try:
            array = decode_request(body).inputs[0].data
        except InvalidRequest:
            continue
        expected: list[Any] = json.loads(body)["inputs"][0]["data"]
        assert array.tolist() == pytest.approx([float(value) for value in expected], nan_ok=True)
        taken += 1
    assert taken > 500


def test_too_many_constants_or_levels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_constants, "MAX_CONSTANTS", 10)
    assert "binary" in error_of(tensor(f"[{'NaN,' * 10}NaN]", count=11))
    monkeypatch.setattr(json_constants, "MAX_CONSTANTS", 10_000)
    monkeypatch.setattr(json_constants, "MAX_STRETCHES", 10)
    assert "binary" in error_of(tensor("[" + ",".join(["NaN", '"a"'] * 20) + "]", count=40))
    assert "deep" in error_of(b'{"inputs": [], "a": NaN, "b": ' + b"[" * 500 + b"]" * 500 + b"}")
