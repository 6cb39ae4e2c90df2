"""A signature: which requests fit a model, and which version can stand in for another."""

from typing import Any

import numpy as np
import pytest

from gateway.backends.signature import Signature
from gateway.errors import InvalidRequest, ModelUnavailable
from gateway.protocol.tensors import DATATYPES, InferRequest, RequestedOutput, Tensor, TensorSpec

X = TensorSpec("x", "FP32", (-1, 3))
Y = TensorSpec("y", "FP32", (-1,))
SIGNATURE = Signature(
    [X, TensorSpec("name", "BYTES", (-1, 1)), TensorSpec("offset", "FP32", (1,), optional=True)],
    [Y, TensorSpec("z", "INT64", (-1, 2)), TensorSpec("w", "BOOL", (-1,))],
)


def tensor(name: str, datatype: str, data: Any) -> Tensor:
    return Tensor(name, datatype, np.array(data, DATATYPES[datatype].dtype))


GOOD_X = tensor("x", "FP32", [[1, 2, 3]])
GOOD_NAME = tensor("name", "BYTES", [["a"]])


def refusal(*inputs: Tensor) -> str:
    with pytest.raises(InvalidRequest) as caught:
        SIGNATURE.bind(InferRequest(inputs))
    return str(caught.value)


def test_bind_accepts_inputs_in_any_order() -> None:
    feeds = SIGNATURE.bind(InferRequest([GOOD_NAME, GOOD_X]))
    assert feeds.keys() == {"x", "name"}
    assert feeds["x"] is GOOD_X.data
    assert feeds["name"].tolist() == [["a"]]


def test_bind_includes_an_optional_input_that_is_sent() -> None:
    feeds = SIGNATURE.bind(InferRequest([GOOD_X, GOOD_NAME, tensor("offset", "FP32", [4])]))
    assert feeds["offset"].tolist() == [4]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([GOOD_X], "input 'name' is missing; send it as BYTES [-1, 1]"),
        ([], "input 'x' is missing; send it as FP32 [-1, 3]"),
        (
            [GOOD_X, GOOD_NAME, tensor("typo", "FP32", [1])],
            "unknown input 'typo'; the model's inputs are 'x' (FP32 [-1, 3]), 'name' (BYTES [-1, 1]), "
            "'offset' (FP32 [1])",
        ),
        ([tensor("x", "FP64", [[1, 2, 3]])], "input 'x': datatype is FP64, the model takes FP32"),
        ([tensor("x", "FP32", [[1, 2]])], "input 'x': shape is [1, 2], the model takes [-1, 3] (-1: any size)"),
        ([tensor("x", "FP32", [1, 2, 3])], "input 'x': shape is [3], the model takes [-1, 3] (-1: any size)"),
        ([tensor("x", "FP32", [[[1, 2, 3]]])], "input 'x': shape is [1, 1, 3], the model takes [-1, 3] (-1: any size)"),
        ([tensor("offset", "FP32", [1, 2])], "input 'offset': shape is [2], the model takes [1] (-1: any size)"),
    ],
)
def test_bind_refuses_unfitting_inputs_with_the_remedy(inputs: list[Tensor], message: str) -> None:
    assert refusal(*inputs) == message


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_bind_accepts_any_size_for_a_free_dimension(rows: int) -> None:
    signature = Signature([X], [Y])
    x = Tensor("x", "FP32", np.zeros((rows, 3), np.float32))
    assert signature.bind(InferRequest([x]))["x"].shape == (rows, 3)


def test_bind_accepts_any_shape_where_none_is_declared() -> None:
    signature = Signature([TensorSpec("x", "FP32", ())], [Y])
    for shape in ((), (2,), (2, 3)):
        x = Tensor("x", "FP32", np.zeros(shape, np.float32))
        assert signature.bind(InferRequest([x]))["x"].shape == shape


def test_bind_decodes_bytes_as_text() -> None:
    feeds = SIGNATURE.bind(InferRequest([GOOD_X, tensor("name", "BYTES", [[b"caf\xc3\xa9"], ["b\0"]])]))
    assert feeds["name"].tolist() == [["café"], ["b\0"]]


def test_bind_keeps_bytes_that_are_not_utf8() -> None:
    feeds = SIGNATURE.bind(InferRequest([GOOD_X, tensor("name", "BYTES", [[b"\xff\xd8"], ["é"]])]))
    assert [element.tobytes() for element in feeds["name"].ravel()] == [b"\xff\xd8", "é".encode()]
    assert feeds["name"].shape == (2, 1)


def test_bind_refuses_bytes_that_would_be_truncated() -> None:
    assert refusal(tensor("name", "BYTES", [[b"\xff\0"]])).startswith("input 'name': an element that is not UTF-8 ends")


def test_positions_follow_the_requested_outputs_or_are_all() -> None:
    assert list(SIGNATURE.positions(None)) == [0, 1, 2]
    assert list(SIGNATURE.positions([RequestedOutput("w"), RequestedOutput("y")])) == [2, 0]
    assert list(SIGNATURE.positions([])) == []


def test_unknown_output_is_refused_with_the_existing_ones() -> None:
    with pytest.raises(InvalidRequest) as caught:
        SIGNATURE.positions([RequestedOutput("y"), RequestedOutput("v")])
    expected = "unknown output 'v'; the model's outputs are 'y' (FP32 [-1]), 'z' (INT64 [-1, 2]), 'w' (BOOL [-1])"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([X], [Y]),
        ([TensorSpec("x", "FP32", (-1, -1))], [Y]),  # takes more
        ([TensorSpec("x", "FP32", ())], [Y]),
        ([TensorSpec("x", "FP32", (-1, 3), optional=True)], [Y]),
        ([X, TensorSpec("extra", "FP32", (1,), optional=True)], [Y]),
        ([X], [TensorSpec("more", "FP32", (-1,)), Y]),  # gives more
    ],
)
def test_compatible_version_passes_check_replaceable_by(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    Signature([X], [Y]).check_replaceable_by(Signature(inputs, outputs), 2)


@pytest.mark.parametrize(
    ("inputs", "outputs", "difference"),
    [
        ([TensorSpec("u", "FP32", (-1, 3), optional=True)], [Y], "it has no input 'x'"),
        ([TensorSpec("x", "FP64", (-1, 3))], [Y], "its input 'x' is FP64 [-1, 3] instead of FP32 [-1, 3]"),
        ([TensorSpec("x", "FP32", (-1, 4))], [Y], "its input 'x' is FP32 [-1, 4] instead of FP32 [-1, 3]"),
        ([TensorSpec("x", "FP32", (1, 3))], [Y], "its input 'x' is FP32 [1, 3] instead of FP32 [-1, 3]"),
        ([TensorSpec("x", "FP32", (3,))], [Y], "its input 'x' is FP32 [3] instead of FP32 [-1, 3]"),
        ([X, TensorSpec("u", "FP32", (1,))], [Y], "it also needs an input 'u'"),
        ([X], [TensorSpec("label", "FP32", (-1,))], "it has no output 'y'"),
        ([X], [TensorSpec("y", "INT64", (-1,))], "its output 'y' is INT64 instead of FP32"),
    ],
)
def test_incompatible_version_is_refused_with_its_difference(
    inputs: list[TensorSpec], outputs: list[TensorSpec], difference: str
) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        Signature([X], [Y]).check_replaceable_by(Signature(inputs, outputs), 2)
    assert str(caught.value) == f"version 2 cannot replace the stable version: {difference}"


OPTIONAL_U = TensorSpec("u", "FP32", (1,), optional=True)


@pytest.mark.parametrize(
    ("theirs", "difference"),
    [
        ([X], "it has no input 'u'"),
        ([X, TensorSpec("u", "FP32", (1,))], "it also needs an input 'u'"),
        ([X, TensorSpec("u", "INT64", (1,), optional=True)], "its input 'u' is INT64 [1] instead of FP32 [1]"),
    ],
)
def test_optional_input_must_be_optional_in_the_candidate_too(theirs: list[TensorSpec], difference: str) -> None:
    stable = Signature([X, OPTIONAL_U], [Y])
    stable.check_replaceable_by(Signature([X, OPTIONAL_U], [Y]), 2)
    with pytest.raises(ModelUnavailable) as caught:
        stable.check_replaceable_by(Signature(theirs, [Y]), 2)
    assert str(caught.value) == f"version 2 cannot replace the stable version: {difference}"


def test_all_signature_differences_are_named_at_once() -> None:
    with pytest.raises(ModelUnavailable) as caught:
        SIGNATURE.check_replaceable_by(Signature([X, TensorSpec("u", "FP32", (1,))], [Y]), 7)
    assert str(caught.value) == (
        "version 7 cannot replace the stable version: it has no input 'name'; it has no input 'offset'; "
        "it also needs an input 'u'; it has no output 'z'; it has no output 'w'"
    )


WEIGHED = Signature([X], [Y], [TensorSpec("w", "FP32", (3,)), TensorSpec("b", "FP32", ())])
W = tensor("w", "FP32", [1, 2, 3])


def test_bind_puts_overridden_initializers_after_the_inputs() -> None:
    assert list(WEIGHED.bind(InferRequest([W, GOOD_X]))) == ["x", "w"]
    assert list(WEIGHED.bind(InferRequest([GOOD_X]))) == ["x"]
    assert WEIGHED.overrides_weights(InferRequest([GOOD_X, W]))
    assert not WEIGHED.overrides_weights(InferRequest([GOOD_X]))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([W], "input 'x' is missing; send it as FP32 [-1, 3]"),
        ([W, tensor("b", "FP32", 1)], "input 'x' is missing; send it as FP32 [-1, 3]"),
        ([GOOD_X, tensor("u", "FP32", [1])], "unknown input 'u'; the model's inputs are 'x' (FP32 [-1, 3])"),
        ([GOOD_X, tensor("w", "FP32", [1])], "input 'w': shape is [1], the model takes [3] (-1: any size)"),
    ],
)
def test_initializer_does_not_replace_a_missing_input(inputs: list[Tensor], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WEIGHED.bind(InferRequest(inputs))
    assert str(caught.value) == message


def test_check_replaceable_by_ignores_initializers() -> None:
    plain, other = Signature([X], [Y]), Signature([X], [Y], [TensorSpec("w", "FP32", (3, 3))])
    for stable in (WEIGHED, plain, other):
        for candidate in (WEIGHED, plain, other):
            stable.check_replaceable_by(candidate, 2)


def test_giving_new_outputs_keeps_the_initializers() -> None:
    assert WEIGHED.with_outputs([X]).initializers == WEIGHED.initializers
