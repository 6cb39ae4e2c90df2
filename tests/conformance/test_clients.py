"""What clients written for other servers send and ask, beyond the text of the protocol."""

import base64
import gzip
import json
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.protocol.tensors import DATATYPES
from tests.conformance.test_pitfalls import LENGTH, infer, tensor
from tests.running import GatewayProcess

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent and geventhttpclient warn on import
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

ODD = np.array([[np.nan, -np.inf, np.inf, 1.5]])
TEXT = {"name": "x", "shape": [1, 1], "datatype": "BYTES", "data": ["hello"]}


@pytest.fixture(scope="module")
def server(zoo_gateway: GatewayProcess) -> Iterator[Any]:
    client = triton.InferenceServerClient(zoo_gateway.address)
    yield client
    client.close()


@pytest.mark.parametrize("binary_out", [False, True])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_nan_in_json_from_tritonclient_is_accepted(server: Any, datatype: str, binary_out: bool) -> None:
    array = ODD.astype(DATATYPES[datatype].dtype)
    asked = triton.InferInput("x", list(array.shape), datatype)
    asked.set_data_from_numpy(array, binary_data=False)
    outputs = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    answer = server.infer(f"identity_{datatype.lower()}", [asked], outputs=outputs).as_numpy("y")
    assert np.array_equal(answer.astype(array.dtype), array, equal_nan=True)


def test_nan_in_json_beside_a_binary_tensor_is_accepted(client: httpx.Client) -> None:
    raw = np.array([[1, np.nan, 3]], "<f4").tobytes()
    size = {"binary_data_size": len(raw)}
    inputs = [
        {"name": "a", "shape": [1, 3], "datatype": "FP32", "data": [float("nan"), 2, float("inf")]},
        {"name": "b", "shape": [1, 3], "datatype": "FP32", "parameters": size},
    ]
    text = json.dumps({"inputs": inputs}).encode()
    answer = infer(client, "adding", text + raw, inference_header_content_length=str(len(text)))
    assert answer.json()["outputs"][0]["data"] == ["NaN", "NaN", "Infinity"]


@pytest.mark.parametrize("model", ["identity_int32", "identity_bool", "identity_bytes"])
def test_nan_in_a_tensor_that_is_not_float_is_refused(client: httpx.Client, model: str) -> None:
    row = tensor(datatype=model.removeprefix("identity_").upper(), data=[float("nan"), 1])
    answer = infer(client, model, {"inputs": [row]})
    assert (answer.status_code, "data[0] = NaN" in answer.json()["error"]) == (400, True)


def test_nan_in_feedback_is_refused(client: httpx.Client) -> None:
    answer = client.post("/v2/feedback", content=b'{"prediction_id": "x", "reward": NaN}')
    assert (answer.status_code, "JSON" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("kind", ["text/plain", "text/plain;charset=UTF-8", "Text/Plain", "text/json"])
def test_v2_request_sent_as_text_plain_is_accepted(client: httpx.Client, kind: str) -> None:
    for model, row in (("image", TEXT), ("doubling", tensor())):
        answer = infer(client, model, {"id": "7", "inputs": [row]}, content_type=kind)
        assert (answer.status_code, answer.json()["id"]) == (200, "7")
    assert infer(client, "image", {"inputs": [TEXT]}, content_type=kind).json()["outputs"][0]["data"] == ["hello"]
    nan = infer(client, "doubling", {"inputs": [tensor(data=[float("nan"), 1])]}, content_type=kind)
    assert nan.json()["outputs"][0]["data"] == ["NaN", 2]


RAW_TEXTS = [
    '{"a": 1}',
    '{"inputs": []}',
    '{"inputs": "how are you"}',
    '{"inputs": [1, 2]}',
    '{"inputs": [{"text": "hello"}]}',
    '{"inputs": [{"name": "x", "shape": [1]',
    '{"inputs": [NaN]}',
    '{NaN "inputs"',
    '{hello} "inputs"',
    '["inputs"]',
    '"inputs"',
    " { ",
    "NaN",
]


@pytest.mark.parametrize("text", RAW_TEXTS)
def test_text_that_looks_like_a_v2_request_is_taken_as_text(client: httpx.Client, text: str) -> None:
    answer = infer(client, "image", text.encode(), content_type="text/plain")
    assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [text])
    assert infer(client, "doubling", text.encode(), content_type="text/plain").status_code == 415


def test_mistake_in_a_v2_request_sent_as_text_plain_is_named(client: httpx.Client) -> None:
    for changes, says in (({"datatype": "FP99"}, "FP99"), ({"data": ...}, "neither data"), ({"name": "z"}, "'z'")):
        row = tensor(**{**TEXT, **changes})
        answer = infer(client, "image", {"inputs": [row]}, content_type="text/plain")
        assert (answer.status_code, says in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("kind", [None, "application/json; charset=utf-8", "application/x-www-form-urlencoded"])
def test_unknown_content_type_is_read_as_json(client: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content_type": kind}
    assert infer(client, "image", {"inputs": [TEXT]}, **headers).json()["outputs"][0]["data"] == ["hello"]


NOT_JSON = (
    "application/xml",
    "application/soap+xml; charset=utf-8",
    "multipart/form-data; boundary=x",
    "Application/Grpc",
)
XML = b"<inputs/>"


@pytest.mark.parametrize("kind", NOT_JSON)
@pytest.mark.parametrize("body", [XML, XML * 10_000], ids=["small", "large"])
def test_request_that_is_neither_json_nor_raw_is_of_an_unsupported_type(
    client: httpx.Client, kind: str, body: bytes
) -> None:
    for answer in (
        infer(client, "doubling", body, content_type=kind),
        client.post("/v2/feedback", content=body, headers={"content-type": kind}),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, "application/json" in error, kind.partition(";")[0].lower() in error) == (
            415,
            True,
            True,
        )
    index = client.post("/v2/repository/index", content=XML, headers={"content-type": kind})
    assert (index.status_code, "application/json" in index.json()["error"]) == (415, True)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (None, XML),
        ("", XML),
        ("application/json", XML),
        ("application/vnd.x+json", XML),
        ("application/x-www-form-urlencoded", XML),
        ("application/octet-stream", XML),
        ("application/xml", b' {"inputs": ['),
    ],
)
def test_request_that_may_be_meant_as_json_is_invalid_instead(
    client: httpx.Client, kind: str | None, body: bytes
) -> None:
    headers = {} if kind is None else {"content_type": kind}
    answer = infer(client, "doubling", body, **headers)
    assert (answer.status_code, "not valid JSON" in answer.json()["error"]) == (400, True)
    told = client.post("/v2/feedback", content=body, headers={} if kind is None else {"content-type": kind})
    assert (told.status_code, "not valid JSON" in told.json()["error"]) == (400, True)


def test_body_of_an_unsupported_type_is_still_read_as_the_json_that_it_is(client: httpx.Client) -> None:
    assert infer(client, "doubling", {"inputs": [tensor()]}, content_type="application/xml").status_code == 200
    broken = infer(
        client, "doubling", XML, content_type="application/xml", inference_header_content_length=str(len(XML))
    )
    assert (broken.status_code, "not valid JSON" in broken.json()["error"]) == (400, True)


def coded(*texts: str, **changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(text.encode()).decode() for text in texts]
    row = tensor(datatype="BYTES", data=data, shape=[len(texts), 1], parameters={"content_type": "base64"})
    return {"inputs": [{**row, **changes}]}


def test_base64_elements_are_decoded(client: httpx.Client) -> None:
    answer = infer(client, "identity_bytes", coded("été", "", "a\nb"))
    assert answer.json()["outputs"][0]["data"] == ["été", "", "a\nb"]
    raw = b"\x08\x00\x00\x00aGVsbG8="
    row = {"name": "x", "shape": [1, 1], "datatype": "BYTES"}
    text = json.dumps({"inputs": [{**row, "parameters": {"content_type": "base64", "binary_data_size": 12}}]}).encode()
    answer = client.post("/v2/models/identity_bytes/infer", content=text + raw, headers={LENGTH: str(len(text))})
    assert answer.json()["outputs"][0]["data"] == ["hello"]


@pytest.mark.parametrize("bad", ["aGk", "a-_=", "aGk=\n", "é", "=", "aGk=aGk="])
def test_invalid_base64_is_named(client: httpx.Client, bad: str) -> None:
    answer = infer(client, "identity_bytes", coded("hi", data=["aGk=", bad], shape=[2, 1]))
    said = answer.json()["error"]
    assert (answer.status_code, "inputs[0] 'x': data[1]" in said, "Base64" in said) == (400, True, True)


def test_base64_of_numbers_or_of_a_whole_request_is_refused(client: httpx.Client) -> None:
    parameters = {"content_type": "base64"}
    answer = infer(client, "doubling", {"inputs": [tensor(parameters=parameters)]})
    assert (answer.status_code, "FP32" in answer.json()["error"]) == (400, True)
    answer = infer(client, "doubling", {"inputs": [tensor()], "parameters": parameters})
    assert (answer.status_code, "an input" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("kind", ["np", "str", "pd", "image/png"])
def test_content_type_parameter_of_other_codecs_is_ignored(client: httpx.Client, kind: str) -> None:
    """MLServer's codecs use these names; the elements are encoded as the protocol says."""
    row = tensor(parameters={"content_type": kind})
    assert infer(client, "doubling", {"inputs": [row], "parameters": {"content_type": kind}}).status_code == 200


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ("x-gzip", 200),
        ("X-GZIP", 200),
        ("GZip", 200),
        ("gzip, identity", 200),
        ("identity ,gzip", 200),
        ("gzip,", 200),
        ("gzip, gzip", 415),
        ("x-deflate", 415),
        ("gzip, br", 415),
        ("identity", 400),
    ],
)
def test_names_of_content_encodings_and_their_status(client: httpx.Client, named: str, status: int) -> None:
    body = gzip.compress(json.dumps({"inputs": [tensor()]}).encode())
    assert infer(client, "doubling", body, content_encoding=named).status_code == status


@pytest.mark.parametrize(
    ("named", "status"), [(["gzip", "identity"], 200), (["identity", "gzip"], 200), (["gzip"] * 2, 415)]
)
def test_content_encodings_in_separate_headers(client: httpx.Client, named: list[str], status: int) -> None:
    body = gzip.compress(json.dumps({"inputs": [tensor()]}).encode())
    headers = [("content-encoding", coding) for coding in named]
    assert client.post("/v2/models/doubling/infer", content=body, headers=headers).status_code == status


def test_model_configuration_of_a_model(server: Any) -> None:
    for version in ("", "1"):
        config = server.get_model_config("doubling", version)
        assert (config["name"], config["platform"], config["backend"]) == (
            "doubling",
            "onnxruntime_onnx",
            "onnxruntime",
        )
        assert config["version_policy"] == {"specific": {"versions": [1]}}
        assert config["instance_group"] == [{"name": "doubling", "kind": "KIND_CPU", "count": 1}]
    assert server.get_model_config("fixed")["max_batch_size"] == 0
    assert server.get_model_config("fixed")["input"] == [
        {"name": "x", "data_type": "TYPE_FP32", "dims": [3, 2], "optional": False}
    ]
    texts = server.get_model_config("identity_bytes")
    assert texts["input"][0]["data_type"] == texts["output"][0]["data_type"] == "TYPE_STRING"
    assert [one["optional"] for one in server.get_model_config("defaulted")["input"]] == [False]  # a weight is no input
    for name, version in (("nothing", ""), ("doubling", "9")):
        with pytest.raises(InferenceServerException) as refused:
            server.get_model_config(name, version)
        assert refused.value.status() == "404"


def test_model_configuration_agrees_with_metadata(server: Any, client: httpx.Client) -> None:
    """Where rows are batched, the metadata's first dimension is the batch, which perf_analyzer removes."""
    joined = 0
    for entry in server.get_model_repository_index():
        if entry["state"] != "READY":
            continue
        config, metadata = server.get_model_config(entry["name"]), server.get_model_metadata(entry["name"])
        rows = config["max_batch_size"]
        joined += rows > 0
        assert ("dynamic_batching" in config) is (rows > 0)
        for kind in ("input", "output"):
            for one, other in zip(config[kind], metadata[f"{kind}s"], strict=True):
                assert (one["name"], [-1] * (rows > 0) + one["dims"]) == (other["name"], other["shape"])
                assert one["data_type"] in (f"TYPE_{other['datatype']}", "TYPE_STRING")
    assert joined > 0
    assert "model_configuration" in client.get("/v2").json()["extensions"]


def test_tritonclient_reads_labels_of_a_zip_map(server: Any) -> None:
    rows = triton.InferInput("X", [1, 3], "FP32")
    rows.set_data_from_numpy(np.array([[9, 0, 0]], np.float32))
    names = [one["name"] for one in server.get_model_metadata("zip_map_str")["outputs"]]
    for binary in (False, True):
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
        answer = server.infer("zip_map_str", [rows], outputs=outputs)
        parameters = answer.get_output(names[1])["parameters"]
        assert {type(value) for value in parameters.values()} <= {str, int, float, bool}
        labels = json.loads(parameters["labels"])
        assert labels[int(answer.as_numpy(names[1]).argmax())] == "cat"
