"""Large JSON read in pieces of any size means the same as read at once, and holds no more values than allowed."""

import json
import random
from typing import Any

import numpy as np
import pytest

from gateway.errors import BodyTooLarge, DeadlineExceeded, RequestError
from gateway.protocol import large_json
from gateway.protocol.classification import classify
from gateway.protocol.decode import decode_request
from gateway.protocol.large_json import MAX_TENSORS, count_values, decode_large
from gateway.protocol.tensors import InferRequest, Tensor

FEW = 12  # values that a body of these tests may hold beside its numbers


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "PIECE_BYTES", 7)
    monkeypatch.setattr(large_json, "SLICE_BYTES", 11)


def go_on() -> None:
    return None


def tensor(data: str, shape: list[int], datatype: str = "FP32", more: str = "") -> str:
    return f'{{"name": "x", "shape": {shape}, "datatype": "{datatype}",{more} "data": {data}}}'


def body(*inputs: str, more: str = "") -> bytes:
    return f'{{"inputs": [{", ".join(inputs)}]{more}}}'.encode()


def inputs_of(request: InferRequest) -> list[tuple[str, str, list[Any], list[int]]]:
    return [(one.name, one.datatype, one.data.tolist(), list(one.data.shape)) for one in request.inputs]


NUMBERS = "[1, 2.5, -3e2,4 ,\n5,\t6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]"
ROWS = "[[1,2,3,4], [5,6,7,8] ,[9,10,11,12],\n[13,14,15,16],[17,18,19,20]]"
CUBE = "[[[1,2],[3,4]] , [[5,6],[7,8]],[[9,10],[11,12]] ,[[13,14 ] ,[15,16] ],[[17,18],[19,20]]]"
SOUND = {
    "flat": body(tensor(NUMBERS, [20])),
    "flat in two dimensions": body(tensor(NUMBERS, [5, 4])),
    "integers": body(tensor(NUMBERS.replace("2.5", "2").replace("-3e2", "-300"), [20], "INT64")),
    "rows": body(tensor(ROWS, [5, 4])),
    "rows of doubles": body(tensor(ROWS, [5, 4], "FP64")),
    "cube": body(tensor(CUBE, [5, 2, 2])),
    "one above": body(tensor(f"[{ROWS}]", [1, 5, 4])),
    "two above": body(tensor(f"[ [ {CUBE} ] ]", [1, 1, 5, 2, 2])),
    "one below": body(tensor("[" + ",".join(f"[[{n}]]" for n in range(40)) + "]", [40, 1, 1])),
    "parameters": body(tensor(NUMBERS, [20], more='"parameters": {"a": 1},')),
    "null for parameters": body(tensor(NUMBERS, [20], more='"parameters": null,')),
    "the data first": b'{"inputs": [{"data": %b, "name": "x", "shape": [20], "datatype": "FP32"}]}' % NUMBERS.encode(),
    "two": body(tensor(NUMBERS, [20]), tensor(ROWS, [5, 4]).replace('"x"', '"z"')),
    "beside a short one": body(tensor("[1]", [1]).replace('"x"', '"z"'), tensor(NUMBERS, [20])),
    "truth": body(tensor("[" + ",".join(["true", "false"] * 20) + "]", [40], "BOOL")),
    "outputs": body(tensor(NUMBERS, [20]), more=', "id": "a,b", "outputs": [{"name": "y"}]'),
    "a name like the key": body(tensor(NUMBERS, [20]).replace('"x"', '"\\"data\\":[1,2,3,4,5,6,7,8]"')),
    "spaces": body(tensor(NUMBERS, [20]).replace('"data": ', '"data" \n:\t ')),
    "last of two": body(tensor(NUMBERS, [20], more='"data": [1],')),
}


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("piece", [1, 7, 30, 1000])
def test_decode_large_equals_decode_request(name: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "PIECE_BYTES", piece)
    most = FEW + 22 if piece > 7 or name in ("two", "last of two") else FEW + 14
    if piece == 1000:  # nothing is long enough to be cut out
        most = 1000
    expected, found = decode_request(SOUND[name]), decode_large(SOUND[name], most, go_on)
    assert inputs_of(found) == inputs_of(expected)
    assert (found.id, found.outputs) == (expected.id, expected.outputs)


WRONG = {
    "a comma at the end": body(tensor(NUMBERS.replace("20]", "20,]"), [20])),
    "a comma at the begin": body(tensor(NUMBERS.replace("[1,", "[,1,"), [20])),
    "two commas": body(tensor(NUMBERS.replace("9,", "9,,"), [20])),
    "one too few": body(tensor(NUMBERS, [21])),
    "one too many": body(tensor(NUMBERS, [19])),
    "a word": body(tensor(NUMBERS.replace("9,", "nine,"), [20])),
    "nothing": body(tensor(NUMBERS.replace("9,", "null,"), [20])),
    "a list within": body(tensor(NUMBERS.replace("9,", "[9],"), [20])),
    "an object within": body(tensor(NUMBERS.replace("9,", "{},"), [20])),
    "ragged": body(tensor(ROWS.replace("7,8", "7"), [5, 4])),
    "ragged, but as many": body(tensor(ROWS.replace("7,8] ,[9", "7] ,[8,9"), [5, 4])),
    "a bracket too many": body(tensor(ROWS.replace("8]", "8]]"), [5, 4])),
    "a bracket too few": body(tensor(ROWS.replace("8]", "8"), [5, 4])),
    "nested deeper": body(tensor(CUBE, [5, 4])),
    "nested less": body(tensor(ROWS, [5, 2, 2])),
    "no number of its type": body(tensor(NUMBERS, [20], "UINT8")),
    "too large for its type": body(tensor(NUMBERS.replace("9,", "1e300,"), [20])),
    "an unknown type": body(tensor(NUMBERS, [20], "FP8")),
    "numbers for text": body(tensor(NUMBERS, [20], "BYTES")),
    "a shape that is none": body(tensor(NUMBERS, [20]).replace("[20]", '"20"')),
    "a shape below zero": body(tensor(NUMBERS, [-20])),
    "both": body(tensor(NUMBERS, [20], more='"parameters": {"binary_data_size": 80},')),
    "no object for parameters": body(tensor(NUMBERS, [20], more='"parameters": [1],')),
    "twice": body(tensor(NUMBERS, [20]), tensor(NUMBERS, [20])),
    "no inputs": b'{"data": %b}' % NUMBERS.encode(),
    "no request": b'[{"data": %b}]' % NUMBERS.encode(),
    "no end": body(tensor(NUMBERS, [20]))[:-1],
    "no end of the list": body(tensor(NUMBERS, [20]))[:-4],
    "numbers somewhere else": body(tensor("[1]", [1]), more=f', "parameters": {{"data": {NUMBERS}}}'),
}


@pytest.mark.parametrize("name", WRONG)
def test_decode_large_refuses_malformed_bodies(name: str) -> None:
    if "somewhere" not in name:
        with pytest.raises(RequestError):
            decode_request(WRONG[name])
    with pytest.raises(RequestError) as raised:
        decode_large(WRONG[name], FEW + 6, go_on)
    assert raised.value.status in (400, 413)
    assert large_json._MARK[5:20] not in str(raised.value)


def test_decode_large_accepts_numbers_in_any_form() -> None:
    dice = random.Random(5)
    for _ in range(300):
        shape = [dice.choice([1, 1, 2, 3, 5]) for _ in range(dice.randint(1, 4))]
        array = np.array([dice.uniform(-9, 9) for _ in range(int(np.prod(shape)))]).reshape(shape)
        data = array.tolist() if dice.random() < 0.7 else array.ravel().tolist()
        text = json.dumps(data, separators=dice.choice([(",", ":"), (", ", ": "), (" ,\n", ":")]))
        request = body(tensor(text, shape, "FP64"))
        try:
            found = decode_large(request, dice.choice([16, 25, 60]), go_on)
        except BodyTooLarge:
            continue
        assert inputs_of(found) == inputs_of(decode_request(request))


def test_decode_large_refuses_more_values_than_allowed() -> None:
    for text in (
        b'{"x": [%b]}' % b",".join([b"{}"] * 50),
        body(tensor(str(["a"] * 50).replace("'", '"'), [50], "BYTES")),
    ):
        with pytest.raises(BodyTooLarge, match=r"limits\.values is 40; send fewer rows at a time, or binary tensors"):
            decode_large(text, 40, go_on)
    assert count_values(b'[1,2,{"a":[3]}]') == 5


def test_decode_large_refuses_a_row_with_too_many_values() -> None:
    rows = json.dumps([list(range(50)), list(range(50))])
    with pytest.raises(BodyTooLarge, match=r"limits\.values"):
        decode_large(body(tensor(rows, [2, 50])), 40, go_on)


def test_decode_large_refuses_more_tensors_than_allowed() -> None:
    inputs = [tensor("[1]", [1]).replace('"x"', f'"{n}"') for n in range(MAX_TENSORS + 1)]
    outputs = ", ".join(f'{{"name": "{n}"}}' for n in range(MAX_TENSORS + 1))
    for text in (body(*inputs), body(tensor("[1]", [1]), more=f', "outputs": [{outputs}]')):
        with pytest.raises(BodyTooLarge, match="1000 inputs and 1000 outputs"):
            decode_large(text, 10**6, go_on)
        assert len(decode_request(text).inputs) > 0


def test_decode_large_ends_at_the_deadline() -> None:
    def late() -> None:
        raise DeadlineExceeded("late")

    with pytest.raises(DeadlineExceeded):
        decode_large(SOUND["flat"], FEW, late)


@pytest.mark.parametrize("dtype", ["FP16", "FP32", "FP64", "INT64"])
def test_highest_classes_are_the_same_one_by_one_and_sorted(dtype: str) -> None:
    dice = np.random.default_rng(3)
    numbers = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "INT64": np.int64}[dtype]
    for _ in range(100):
        scores: Any = dice.integers(-3, 4, (dice.integers(1, 5), dice.integers(1, 30))).astype(numbers)
        if dtype != "INT64":
            for odd in (np.nan, np.inf, -np.inf):
                scores[dice.random(scores.shape) < 0.05] = odd
        top = int(dice.integers(1, 20))
        found = classify(Tensor("y", dtype, scores), top, ["a", "b", "c"]).data
        for row, texts in zip(scores, found, strict=True):
            order = sorted(range(len(row)), key=lambda index: (not np.isnan(row[index]), -row[index], index))[:top]
            assert [int(text.split(":")[1]) for text in texts] == order
            assert [text.split(":")[0] for text in texts] == [f"{float(row[index]):f}" for index in order]
