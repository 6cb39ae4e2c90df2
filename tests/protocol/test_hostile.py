"""Requests built to be expensive: the refusal is short, and takes no longer than reading them."""

import time
import tracemalloc
from typing import Any

import orjson
import pytest

from gateway.errors import InvalidRequest
from gateway.protocol.decode import decode_request
from gateway.protocol.elements import MAX_SHOWN_VALUE, short

LONG = "x" * 10_000
MANY = [[LONG] * 4] * 4
NESTED: Any = [1] * 6
for _ in range(4):
    NESTED = [NESTED] * 6
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode_request(orjson.dumps(document))
    return str(caught.value)


@pytest.mark.parametrize("value", [LONG, MANY, NESTED, {LONG: MANY}, {str(key): 1 for key in range(1_000)}])
@pytest.mark.parametrize("change", ["name", "datatype", "shape", "dimension", "data", "element", "size", "nested"])
def test_refusal_never_echoes_a_long_value(change: str, value: Any) -> None:
    tensor = (
        TENSOR
        | {
            "name": {"name": value},
            "datatype": {"datatype": value},
            "shape": {"shape": value},
            "dimension": {"shape": [value] * 32},
            "data": {"data": {"key": value}},
            "element": {"data": [value]},
            "size": {"data": None, "parameters": {"binary_data_size": value}},
            "nested": {"shape": [1, 1], "data": [[1], value]},
        }[change]
    )
    if (change, value) == ("name", LONG):
        tensor |= {"data": None}  # the name alone is no mistake
    assert len(refusal({"inputs": [tensor]})) < 350


@pytest.mark.parametrize(
    "value", [LONG * 100, MANY, NESTED, {LONG: MANY}, [MANY] * 32, {str(key): 1 for key in range(1_000)}]
)
def test_short_does_not_build_the_whole_text(value: Any) -> None:
    tracemalloc.start()
    try:
        echo = short(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(echo) <= MAX_SHOWN_VALUE
    assert peak < 16_384


def test_refusal_shortens_a_long_binary_data_size() -> None:
    text = orjson.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": MANY}}]}
    )
    with pytest.raises(InvalidRequest, match="binary_data_size must be") as caught:
        decode_request(text + bytes(4), len(text))
    assert len(str(caught.value)) < 200


def test_refusal_shortens_a_name_listed_twice() -> None:
    assert len(refusal({"inputs": [TENSOR | {"name": LONG}] * 2})) < 200


def test_refusal_shows_a_short_value_whole() -> None:
    assert "[2, -1]" in refusal({"inputs": [TENSOR | {"shape": [2, -1]}]})
    assert "'one'" in refusal({"inputs": [TENSOR | {"data": ["one"]}]})


def test_duplicate_names_are_found_in_one_pass() -> None:
    outputs = [{"name": f"output-{number}"} for number in range(50_000)]
    started = time.process_time()
    message = refusal({"inputs": [TENSOR], "outputs": [*outputs, outputs[-1]]})
    assert time.process_time() - started < 5  # a hundredth of it as a rule; comparing all pairs takes a minute
    assert message == "outputs: 'output-49999' is listed 2 times; name each tensor once"
