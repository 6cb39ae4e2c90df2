"""Mutated bodies: never a 500, never a hang, and memory stays bounded."""

import json
import struct
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.protocol.tensors import DATATYPES
from tests.running import GatewayProcess

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(0, 3) | st.none() | st.text(max_size=2), max_size=4),
    st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "classification", "x"]), st.integers(-2, 99)),
)
SHAPE = st.lists(st.integers(-2, 5) | st.sampled_from([2**31, 2**62, 2**64]), max_size=4) | ODD
DATA = st.lists(st.integers(-300, 300) | st.floats(-1e40, 1e40) | st.sampled_from(["NaN", "a", None, [1]]), max_size=8)
INPUT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "a", "b", ""]) | ODD,
        "shape": SHAPE,
        "datatype": st.sampled_from(sorted(DATATYPES)) | ODD,
        "data": DATA | ODD,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 40) | ODD}) | ODD,
    },
)
DOCUMENT = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=3) | ODD,
        "inputs": st.lists(INPUT, max_size=3) | ODD,
        "outputs": st.lists(
            st.fixed_dictionaries({}, optional={"name": st.sampled_from(["y", "sum"]) | ODD, "parameters": ODD}),
            max_size=2,
        )
        | ODD,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_output", "timeout", "customer", "modality"]), ODD)
        | ODD,
    },
)
MODELS = [f"identity_{name.lower()}" for name in sorted(DATATYPES)] + ["adding", "summing", "labelled", "image"]
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "inference-header-content-length": st.integers(-1, 300).map(str) | st.sampled_from(["", "0", "x", "9" * 30]),
        "content-type": st.sampled_from(["image/png", "text/plain", "application/json", "", "/"]),
        "x-customer-id": st.sampled_from(["a", "", "é"]).map(lambda text: text.encode()),
        "x-modality": st.sampled_from(["image", ""]),
    },
)
FUZZ = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


def check(client: httpx.Client, model: str, body: bytes, headers: Any) -> None:
    answer = client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500, f"{answer.status_code} {answer.text} for {body!r} {headers!r}"
        assert answer.json()["error"]


@FUZZ
@given(st.sampled_from(MODELS), DOCUMENT, st.binary(max_size=60), HEADERS)
def test_json_followed_by_random_bytes(
    client: httpx.Client, model: str, document: Any, tail: bytes, headers: dict[str, Any]
) -> None:
    check(client, model, json.dumps(document).encode() + tail, headers)


@FUZZ
@given(st.sampled_from(MODELS), DOCUMENT, st.binary(max_size=60))
def test_binary_body_with_a_correct_header_length(client: httpx.Client, model: str, document: Any, tail: bytes) -> None:
    header = json.dumps(document).encode()
    check(client, model, header + tail, {"inference-header-content-length": str(len(header))})


@FUZZ
@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(0, 4), max_size=3),
    st.binary(max_size=64),
    st.integers(0, 1),
)
def test_well_formed_binary_tensor_with_random_content(
    client: httpx.Client, datatype: str, shape: list[int], raw: bytes, text: int
) -> None:
    if datatype == "BYTES" and text:
        raw = struct.pack(f"<I{len(raw)}s", len(raw), raw)
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": bool(text)}}).encode()
    check(client, f"identity_{datatype.lower()}", header + raw, {"inference-header-content-length": str(len(header))})


@FUZZ
@given(st.binary(max_size=200))
def test_random_bytes(client: httpx.Client, body: bytes) -> None:
    check(client, "doubling", body, {})


def test_memory_stays_bounded_for_bodies_that_claim_more_than_they_hold(
    client: httpx.Client, zoo_gateway: GatewayProcess
) -> None:
    """Bodies that declare far more than they contain must not cost what they declare."""
    claims: list[dict[str, Any]] = [
        {"shape": [2**20, 2**12], "datatype": "FP64", "data": [1]},
        {"shape": [2**33], "datatype": "BYTES", "data": []},
        {"shape": [2**40], "datatype": "BYTES", "parameters": {"binary_data_size": 0}},
        {"shape": [2**62, 4], "datatype": "INT8", "parameters": {"binary_data_size": 2**62}},
    ]
    for claim in claims:
        header = json.dumps({"inputs": [{"name": "x", **claim}]}).encode()
        check(client, "identity_fp64", header, {"inference-header-content-length": str(len(header))})
    before = zoo_gateway.resident_mib()
    for _ in range(200):
        for claim in claims:
            header = json.dumps({"inputs": [{"name": "x", **claim}]}).encode()
            check(client, "identity_fp64", header, {"inference-header-content-length": str(len(header))})
    assert zoo_gateway.resident_mib() < before + 32
