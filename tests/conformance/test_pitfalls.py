"""Common mistakes of V2 implementations, over plain HTTP; every refusal names the place and the remedy."""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.running import GatewayProcess

LENGTH = "inference-header-content-length"
ROW = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


def tensor(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**ROW, **changes}.items() if value is not ...}


def infer(client: httpx.Client, model: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(
        f"/v2/models/{model}/infer",
        content=content,
        headers={key.replace("_", "-"): value for key, value in headers.items()},
    )


def binary_body(document: Any, *tails: bytes) -> tuple[bytes, str]:
    header = json.dumps(document).encode()
    return header + b"".join(tails), str(len(header))


def test_json_answer_of_a_plain_request(client: httpx.Client) -> None:
    answer = infer(client, "doubling", {"id": "a", "inputs": [tensor()]})
    assert answer.status_code == 200
    body = answer.json()
    prediction = body["parameters"]["prediction_id"]
    assert body == {
        "model_name": "doubling",
        "model_version": "1",
        "id": "a",
        "parameters": {"prediction_id": prediction, "variant": "stable", "route": "default"},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2, 4]}],
    }
    assert answer.headers["x-prediction-id"] == prediction
    assert (answer.headers["x-model-version"], answer.headers["x-variant"]) == ("1", "stable")
    again = infer(client, "doubling", {"inputs": [tensor()]})
    assert "id" not in again.json()
    assert again.headers["x-prediction-id"] != prediction


NAN_IN = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, -1, "Infinity"]}]}


def test_non_finite_numbers_are_accepted_and_returned_as_strings(client: httpx.Client) -> None:
    data = infer(client, "logarithm", NAN_IN).json()["outputs"][0]["data"]
    assert data == ["-Infinity", "NaN", "Infinity"]


def test_fp16_in_json_is_accepted_and_returned(client: httpx.Client) -> None:
    row = tensor(datatype="FP16", data=[0.5, "NaN"])
    assert infer(client, "identity_fp16", {"inputs": [row]}).json()["outputs"][0]["data"] == [0.5, "NaN"]


def test_binary_output_default_applies_to_listed_outputs(client: httpx.Client) -> None:
    inputs = [
        {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
        {"name": "count", "shape": [1, 1], "datatype": "INT64", "data": [2]},
        {"name": "name", "shape": [1, 1], "datatype": "BYTES", "data": ["n"]},
    ]
    outputs = [{"name": "same_name", "parameters": {"binary_data": False}}, {"name": "scaled"}]
    asked = {"inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": True}}
    answer = infer(client, "mixed", asked)
    length = int(answer.headers[LENGTH])
    names, scaled = json.loads(answer.content[:length])["outputs"]
    assert (names["name"], names["data"]) == ("same_name", ["n"])
    assert (scaled["name"], scaled["parameters"]) == ("scaled", {"binary_data_size": 12})
    assert answer.content[length:] == np.array([2, 4, 6], "<f4").tobytes()
    everything = infer(client, "mixed", {"inputs": inputs, "parameters": {"binary_data_output": True}})
    assert everything.content[int(everything.headers[LENGTH]) :] == answer.content[length:] + struct.pack(
        "<I1s", 1, b"n"
    )


def test_raw_body_for_a_model_with_one_input(client: httpx.Client) -> None:
    raw = np.array([[1, 2], [3, 4]], "<f4").tobytes()
    assert infer(client, "doubling", raw, inference_header_content_length="0").json()["outputs"][0] == {
        "name": "y",
        "datatype": "FP32",
        "shape": [2, 2],
        "data": [2, 4, 6, 8],
    }


@pytest.mark.parametrize("kind", ["image/png", "text/plain; charset=utf-8", "audio/wav"])
def test_raw_body_with_a_media_type(client: httpx.Client, kind: str) -> None:
    answer = infer(client, "image", "some été".encode(), content_type=kind)
    assert answer.json()["outputs"][0] == {"name": "y", "datatype": "BYTES", "shape": [1, 1], "data": ["some été"]}


def test_zip_map_output_is_a_matrix_with_labels(client: httpx.Client) -> None:
    rows = {"name": "X", "shape": [2, 3], "datatype": "FP32", "data": [9, 0, 0, 0, 0, 9]}
    for model, labels in (("zip_map_int", ["3", "5", "7"]), ("zip_map_str", ["cat", "dog", "eel"])):
        label, scores = infer(client, model, {"inputs": [rows]}).json()["outputs"]
        assert (scores["datatype"], scores["shape"], scores["parameters"].keys()) == ("FP32", [2, 3], {"labels"})
        assert json.loads(scores["parameters"]["labels"]) == labels, "a string: the protocol's parameters hold no lists"
        assert [labels[int(np.argmax(scores["data"][:3]))], labels[int(np.argmax(scores["data"][3:]))]] == [
            str(value) for value in label["data"]
        ]
        outputs = [{"name": scores["name"], "parameters": {"classification": 1}}]
        top = infer(client, model, {"inputs": [rows], "outputs": outputs}).json()["outputs"][0]["data"]
        assert [entry.split(":")[2] for entry in top] == [labels[0], labels[2]]
        assert client.get(f"/v2/models/{model}").json()["outputs"][1] == {
            "name": scores["name"],
            "datatype": "FP32",
            "shape": [-1, 3],
        }


def test_initializer_is_not_listed_and_can_be_overridden(client: httpx.Client) -> None:
    (x,) = client.get("/v2/models/defaulted").json()["inputs"]
    assert x == {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    rows = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    offset = {"name": "offset", "shape": [1], "datatype": "FP32", "data": [1]}
    assert infer(client, "defaulted", {"inputs": [rows]}).json()["outputs"][0]["data"] == [11, 12, 13]
    assert infer(client, "defaulted", {"inputs": [rows, offset]}).json()["outputs"][0]["data"] == [2, 3, 4]


@pytest.mark.parametrize(("raw", "says"), [(b"\xff\xfe", "not UTF-8"), (b"\xff\x00", "NUL")])
def test_bytes_that_onnx_runtime_cannot_carry_are_refused(client: httpx.Client, raw: bytes, says: str) -> None:
    """What ONNX Runtime's Python API cannot carry is refused, not mangled."""
    row = tensor(shape=[1, 1], datatype="BYTES", data=..., parameters={"binary_data_size": 6})
    body, length = binary_body({"inputs": [row]}, struct.pack("<I2s", 2, raw))
    answer = infer(client, "identity_bytes", body, inference_header_content_length=length)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


# model, body, what the message must contain
MALFORMED: list[tuple[str, Any, list[str]]] = [
    ("doubling", b'{"inputs": [', ["JSON"]),
    ("doubling", b"\xff\xfe", ["JSON"]),
    ("doubling", {"inputs": []}, ["inputs"]),
    ("doubling", {"inputs": [tensor(datatype="FP64")]}, ["'x'", "FP64", "FP32"]),
    ("doubling", {"inputs": [tensor(datatype="FLOAT")]}, ["'x'", "FLOAT", "known are"]),
    ("doubling", {"inputs": [tensor(shape=[2])]}, ["'x'", "[2]", "[-1, 2]"]),
    ("doubling", {"inputs": [tensor(shape=[1, 3], data=[1, 2, 3])]}, ["'x'", "[1, 3]", "[-1, 2]"]),
    ("doubling", {"inputs": [tensor(shape=[-1, 2])]}, ["'x'", "-1"]),
    ("doubling", {"inputs": [tensor(shape=[2**40, 2**40])]}, ["'x'", "needs"]),
    ("doubling", {"inputs": [tensor(shape=[1, 3])]}, ["'x'", "needs 3 elements, data has 2"]),
    ("doubling", {"inputs": [tensor(name="z")]}, ["'z'", "'x'"]),
    ("doubling", {"inputs": [tensor(), tensor()]}, ["'x'", "2 times"]),
    ("doubling", {"inputs": [tensor(data=[1, 1e39])]}, ["'x'", "data[1]", "FP32"]),
    ("doubling", {"inputs": [tensor(data=[1, None])]}, ["'x'", "data[1]"]),
    ("doubling", {"inputs": [tensor()], "outputs": [{"name": "q"}]}, ["'q'", "'y'"]),
    ("doubling", {"inputs": [tensor()], "outputs": [{"name": "y"}, {"name": "y"}]}, ["'y'", "2 times"]),
    ("doubling", {"inputs": [tensor()], "parameters": {"timeout": -5}}, ["timeout", "microseconds"]),
    ("doubling", {"inputs": [tensor()], "parameters": {"customer": 5}}, ["customer", "string"]),
    ("adding", {"inputs": [tensor(name="a", shape=[1, 3], data=[1, 2, 3])]}, ["'b'", "missing", "FP32 [-1, 3]"]),
    ("gathering", {"inputs": [tensor(name="i", shape=[1], datatype="INT64", data=[99])]}, ["99"]),
    ("fixed", {"inputs": [tensor(shape=[2, 3], data=[1, 2, 3, 4, 5, 6])]}, ["'x'", "[3, 2]"]),
    ("doubling", {"inputs": [tensor()], "outputs": [{"name": "y", "parameters": {"classification": "2"}}]}, ["'y'"]),
    ("identity_bytes", {"inputs": [tensor(datatype="BYTES", data=["a", 1])]}, ["'x'", "data[1]"]),
]


@pytest.mark.parametrize(("model", "body", "says"), MALFORMED)
def test_malformed_input_is_named(client: httpx.Client, model: str, body: Any, says: list[str]) -> None:
    answer = infer(client, model, body)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    for part in says:
        assert part in answer.json()["error"]


def _lies() -> Iterator[tuple[str, bytes, str, str]]:
    document = {"inputs": [tensor(data=..., parameters={"binary_data_size": 8})]}
    body, length = binary_body(document, bytes(8))
    yield "beyond the body", body, str(len(body) + 1), "Inference-Header-Content-Length"
    yield "negative", body, "-5", "Inference-Header-Content-Length"
    yield "no number", body, "1e3", "Inference-Header-Content-Length"
    yield "absurd", body, "9" * 400, "Inference-Header-Content-Length"
    yield "too short", body, str(int(length) - 1), "JSON"
    yield "too little data", body[:-1], length, "only 7 bytes are left"
    yield "too much data", body + b"x", length, "1 bytes after the JSON"
    yield "raw of the wrong size", bytes(12), "0", "multiple of 8 bytes"
    wrong, length = binary_body({"inputs": [tensor(data=..., parameters={"binary_data_size": 12})]}, bytes(12))
    yield "size that is not the shape's", wrong, length, "needs 8 bytes"


@pytest.mark.parametrize(("body", "length", "says"), [lie[1:] for lie in _lies()], ids=[lie[0] for lie in _lies()])
def test_wrong_lengths_are_refused(client: httpx.Client, body: bytes, length: str, says: str) -> None:
    answer = infer(client, "doubling", body, inference_header_content_length=length)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_binary_body_without_its_header_is_refused(client: httpx.Client) -> None:
    body, _ = binary_body({"inputs": [tensor(data=..., parameters={"binary_data_size": 8})]}, bytes(8))
    answer = infer(client, "doubling", body)
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length" in answer.json()["error"]


def test_raw_body_for_an_unsuitable_model_is_refused(client: httpx.Client) -> None:
    answer = infer(client, "doubling", b"\x89PNG", content_type="image/png")
    assert (answer.status_code, "one BYTES input" in answer.json()["error"]) == (415, True)
    answer = infer(client, "adding", bytes(12), inference_header_content_length="0")
    assert (answer.status_code, "needs one input" in answer.json()["error"]) == (400, True)


def test_content_encodings_are_decoded_or_refused(client: httpx.Client) -> None:
    body = json.dumps({"inputs": [tensor()]}).encode()
    assert infer(client, "doubling", gzip.compress(body), content_encoding="gzip").status_code == 200
    assert infer(client, "doubling", zlib.compress(body), content_encoding="deflate").status_code == 200
    assert infer(client, "doubling", body, content_encoding="identity").status_code == 200
    assert infer(client, "doubling", body, content_encoding="br").status_code == 415
    assert infer(client, "doubling", body, content_encoding="gzip").status_code == 400
    assert infer(client, "doubling", gzip.compress(body)[:-9], content_encoding="gzip").status_code == 400
    bomb = infer(client, "doubling", gzip.compress(bytes(64 * 1024 * 1024)), content_encoding="gzip")
    assert (bomb.status_code, "max_body" in bomb.json()["error"]) == (413, True)


def test_body_over_the_limit_is_refused(client: httpx.Client, zoo_gateway: GatewayProcess) -> None:
    limit = 4 * 1024 * 1024
    assert infer(client, "doubling", b" " * (limit + 1)).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(limit // 65536 + 1):
            yield b" " * 65536

    answer = client.post("/v2/models/doubling/infer", content=chunks())
    assert answer.status_code == 413
    assert "max_body" in answer.json()["error"]
    assert infer(client, "doubling", json.dumps({"inputs": [tensor()]}).encode().ljust(limit)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "/v2/models/nothing/infer", 404, "'nothing'"),
        ("POST", "/v2/models/doubling/versions/9/infer", 404, "served are 1"),
        ("POST", "/v2/models/doubling/versions/one/infer", 404, "numbers from 1 as its versions; served are 1"),
        ("POST", "/v2/models/doubling/versions/-1/infer", 404, "served are 1"),
        ("GET", "/v2/models/nothing", 404, "'nothing'"),
        ("GET", "/v2/models/nothing/ready", 404, "'nothing'"),
        ("GET", "/v2/models/doubling/versions/9", 404, "served are 1"),
        ("GET", "/v2/models/doubling/versions/9/stats", 404, "served are 1"),
        ("GET", "/v2/models/..%2f..%2fetc/ready", 404, "not served"),
        ("GET", "/v2/models/doubling/infer", 405, "POST"),
        ("PUT", "/v2/models/doubling/infer", 405, "POST"),
        ("GET", "/v2/repository/index", 405, "POST"),
        ("POST", "/v2/health/live", 405, "GET"),
        ("GET", "/nothing", 404, "/v2"),
        ("POST", "/v2/repository/models/nothing/load", 404, "'nothing'"),
        ("POST", "/v2/repository/models/nothing/unload", 404, "'nothing'"),
    ],
)
def test_unknown_path_or_method_is_refused_with_the_reason(
    client: httpx.Client, method: str, path: str, status: int, says: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert says in answer.json()["error"]


def test_invalid_repository_requests_are_refused(client: httpx.Client) -> None:
    assert client.post("/v2/repository/index", content=b"[").status_code == 400
    assert client.post("/v2/repository/index", json=[1]).status_code == 400
    answer = client.post("/v2/repository/models/doubling/load", json={"parameters": {"config": "{}"}})
    assert (answer.status_code, "model.yaml" in answer.json()["error"]) == (400, True)
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert {entry["state"] for entry in ready} == {"READY"}
