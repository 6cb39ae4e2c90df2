"""Unmodified tritonclient through the gateway to real servers: every datatype, JSON and binary, bit for bit."""

from typing import Any, Final

import pytest

from gateway.protocol.tensors import DATATYPES
from tests.conformance.test_tritonclient import InferenceServerException, ask, sample, texts
from tests.conformance.test_tritonclient import triton as client_module
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
WAYS: Final = [
    pytest.param(binary_in, binary_out, id=f"{asked}-{answered}")
    for binary_in, asked in ((False, "json"), (True, "binary"))
    for binary_out, answered in ((False, "json"), (True, "binary"))
]


def bytes_of(address: str, datatype: str, binary_in: bool, binary_out: bool) -> Any:
    """What tritonclient reads from a server with the identities, as bytes, with shape and type; or how it fails."""
    array = sample(datatype)
    with client_module.InferenceServerClient(address) as client:
        try:
            asked = ask(client_module, f"identity_{datatype.lower()}", datatype, array, binary_in, binary_out)
            answer = client.infer(**asked, request_id="r-7")
        except InferenceServerException as error:
            return error.status()
    assert answer.get_response()["id"] == "r-7"
    y = answer.as_numpy("y")
    return (y.shape, texts(y)) if datatype == "BYTES" else (y.shape, str(y.dtype), y.tobytes())


def expected(datatype: str) -> Any:
    x = sample(datatype)
    return (x.shape, texts(x)) if datatype == "BYTES" else (x.shape, str(x.dtype), x.tobytes())


@pytest.mark.parametrize("binary_in, binary_out", WAYS)
@pytest.mark.parametrize("datatype", DATATYPES)
def test_triton_answers_every_datatype_through_the_gateway(
    triton_gateway: GatewayProcess, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    assert bytes_of(triton_gateway.address, datatype, binary_in, binary_out) == expected(datatype)


@pytest.mark.parametrize("binary_in, binary_out", WAYS)
@pytest.mark.parametrize("datatype", DATATYPES)
def test_mlserver_answers_every_datatype_through_the_gateway(
    mlserver_gateway: GatewayProcess, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    assert bytes_of(mlserver_gateway.address, datatype, binary_in, binary_out) == expected(datatype)
