"""Unmodified tritonclient through the gateway to real servers: every datatype, JSON and binary, bit for bit."""

from typing import Any, Final

import numpy as np
import pytest

from gateway.protocol.tensors import DATATYPES
from tests.conformance.test_tritonclient import InferenceServerException, ask, sample, texts
from tests.conformance.test_tritonclient import triton as client_module
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
SERVERS: Final = ("triton", "mlserver", "gateway")
WAYS: Final = [
    pytest.param(binary_in, binary_out, id=f"{asked}-{answered}")
    for binary_in, asked in ((False, "json"), (True, "binary"))
    for binary_out, answered in ((False, "json"), (True, "binary"))
]


@pytest.fixture(params=SERVERS)
def front(request: pytest.FixtureRequest) -> Any:
    """A gateway that has another server run an identity of every datatype."""
    return request.getfixturevalue(f"before_{request.param}")


def infer(front: GatewayProcess, datatype: str, *way: Any, **more: Any) -> Any:
    asked = ask(client_module, f"identity_{datatype.lower()}", datatype, *way, **more)
    with client_module.InferenceServerClient(front.address) as client:
        return client.infer(**asked)


def bytes_of(datatype: str, y: Any) -> Any:
    return (y.shape, texts(y)) if datatype == "BYTES" else (y.shape, str(y.dtype), y.tobytes())


@pytest.mark.parametrize("binary_in, binary_out", WAYS)
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_is_answered_through_the_gateway(
    front: GatewayProcess, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    x = sample(datatype)
    answer = infer(front, datatype, x, binary_in, binary_out, request_id="r-7")
    assert bytes_of(datatype, answer.as_numpy("y")) == bytes_of(datatype, x)
    head = answer.get_response()
    assert (head["id"], head["model_name"], head["model_version"]) == ("r-7", f"identity_{datatype.lower()}", "1")
    assert head["parameters"].keys() >= {"prediction_id", "variant", "route"}


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_compression_is_as_the_client_asks(front: GatewayProcess, algorithm: str, binary: bool) -> None:
    x = np.arange(3000, dtype=np.float32).reshape(3, 1000)
    asked = ask(client_module, "identity_fp32", "FP32", x, binary, binary)
    with client_module.InferenceServerClient(front.address) as client:
        answer = client.infer(
            **asked, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
        )
    assert np.array_equal(answer.as_numpy("y"), x)


def test_tensor_of_3_mb_is_answered_unchanged(front: GatewayProcess) -> None:
    x = np.random.default_rng(0).standard_normal((2, 400_000), np.float32)
    assert np.array_equal(infer(front, "FP32", x, True, True).as_numpy("y"), x)


def test_tensor_without_elements_is_answered(front: GatewayProcess) -> None:
    x = np.zeros((0, 3), np.float32)
    assert infer(front, "FP32", x, True, True).as_numpy("y").shape == (0, 3)


def test_client_without_a_list_of_outputs_gets_all_of_them(front: GatewayProcess) -> None:
    x = np.array([[1, 2]], np.float32)
    tensor = client_module.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(x)
    with client_module.InferenceServerClient(front.address) as client:
        assert np.array_equal(client.infer("identity_fp32", [tensor]).as_numpy("y"), x)


@pytest.mark.parametrize("datatype, shape", [("INT32", [1, 2]), ("FP32", [1, 2, 3])])
def test_input_of_another_type_or_shape_is_refused_by_name(
    front: GatewayProcess, datatype: str, shape: list[int]
) -> None:
    tensor = client_module.InferInput("x", shape, datatype)
    tensor.set_data_from_numpy(np.zeros(shape, DATATYPES[datatype].dtype))
    with (
        client_module.InferenceServerClient(front.address) as client,
        pytest.raises(InferenceServerException, match="x") as refused,
    ):
        client.infer("identity_fp32", [tensor])
    assert refused.value.status() == "400"


def test_metadata_is_the_gateways_with_the_servers_tensors(front: GatewayProcess) -> None:
    with client_module.InferenceServerClient(front.address) as client:
        metadata = client.get_model_metadata("identity_int8")
        assert client.is_model_ready("identity_int8")
    assert (metadata["name"], metadata["versions"]) == ("identity_int8", ["1"])
    assert metadata["inputs"] == [{"name": "x", "datatype": "INT8", "shape": [-1, -1]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "INT8", "shape": [-1, -1]}]
