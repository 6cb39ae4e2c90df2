"""Unmodified tritonclient against a running gateway: every datatype, JSON and binary, sync and asyncio."""

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gateway import __version__
from gateway.protocol.tensors import DATATYPES, Array
from tests.running import GatewayProcess

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent and geventhttpclient warn on import
    import tritonclient.http as triton
    import tritonclient.http.aio as triton_aio
    from tritonclient.utils import InferenceServerException

NUMBERS = np.array([[0, 1, 2], [3, 4, 5]])


def sample(datatype: str) -> Array:
    if datatype == "BYTES":
        return np.array([["", "é客", "a\x00b"], ["x", "y z", "null"]], object)
    if datatype == "BOOL":
        return NUMBERS % 2 == 0
    dtype = DATATYPES[datatype].dtype
    if dtype.kind == "f":
        return (NUMBERS / 3).astype(dtype)
    info = np.iinfo(dtype)
    return np.array([[info.min, 0, 1], [2, 3, info.max]], dtype)


def expected(models: Path, name: str, **feeds: Array) -> list[Any]:
    session = onnxruntime.InferenceSession(str(models / name / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    results: list[Any] = session.run(None, feeds)
    return results


def texts(array: Array) -> list[str]:
    return [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]


@pytest.fixture(scope="module")
def server(zoo_gateway: GatewayProcess) -> Iterator[Any]:
    client = triton.InferenceServerClient(zoo_gateway.address)
    yield client
    client.close()


def ask(module: Any, name: str, datatype: str, array: Array, binary_in: bool, binary_out: bool, **options: Any) -> Any:
    tensor = module.InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary_in)
    outputs = [module.InferRequestedOutput("y", binary_data=binary_out)]
    return {"model_name": name, "inputs": [tensor], "outputs": outputs, **options}


@pytest.mark.parametrize("binary_out", [False, True])
@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_is_returned_bit_for_bit(
    server: Any, zoo_models: Path, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    array = sample(datatype)
    name = f"identity_{datatype.lower()}"
    answer = server.infer(**ask(triton, name, datatype, array, binary_in, binary_out)).as_numpy("y")
    wanted = expected(zoo_models, name, x=array)[0]
    assert answer.shape == array.shape
    if datatype == "BYTES":
        assert texts(answer) == texts(wanted)
    else:
        assert answer.dtype == wanted.dtype
        assert answer.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("binary", [False, True])
def test_asyncio_client_gets_its_answers(zoo_gateway: GatewayProcess, binary: bool) -> None:
    async def scenario() -> None:
        async with triton_aio.InferenceServerClient(zoo_gateway.address) as server:
            assert await server.is_server_ready()
            arrays = [np.full((1, 2), index, np.float32) for index in range(32)]
            asked = (server.infer(**ask(triton_aio, "doubling", "FP32", array, binary, binary)) for array in arrays)
            for array, answer in zip(arrays, await asyncio.gather(*asked), strict=True):
                assert np.array_equal(answer.as_numpy("y"), array * 2)

    asyncio.run(scenario())


def test_several_inputs_and_selected_outputs(server: Any) -> None:
    x, count = np.array([[1, 2, 3]], np.float32), np.array([[4]], np.int64)
    inputs = [triton.InferInput("x", [1, 3], "FP32"), triton.InferInput("count", [1, 1], "INT64")]
    inputs[0].set_data_from_numpy(x, binary_data=True)
    inputs[1].set_data_from_numpy(count, binary_data=False)
    inputs.append(triton.InferInput("name", [1, 1], "BYTES"))
    inputs[2].set_data_from_numpy(np.array([["é"]], object), binary_data=True)
    everything = server.infer("mixed", inputs)
    assert everything.as_numpy("scaled").tolist() == [[4, 8, 12]]
    assert everything.as_numpy("same_name").item().decode() == "é"
    one = server.infer("mixed", inputs, outputs=[triton.InferRequestedOutput("scaled", binary_data=False)])
    assert one.as_numpy("same_name") is None


def test_health_and_metadata(server: Any) -> None:
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("adding")
    assert server.is_model_ready("adding", "1")
    assert not server.is_model_ready("adding", "2")
    assert not server.is_model_ready("nothing")
    metadata = server.get_server_metadata()
    assert (metadata["name"], metadata["version"]) == ("canary-gateway", __version__)
    assert {"binary_tensor_data", "classification", "statistics", "model_repository"} <= set(metadata["extensions"])
    for version in ("", "1"):
        assert server.get_model_metadata("recurrent", version) == {
            "name": "recurrent",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
                {"name": "state", "datatype": "FP32", "shape": [2, -1, 4]},
            ],
            "outputs": [
                {"name": "y", "datatype": "FP32", "shape": [-1, 4]},
                {"name": "next_state", "datatype": "FP32", "shape": [2, -1, 4]},
            ],
        }


def test_index_load_and_unload(server: Any) -> None:
    index = {entry["name"]: entry for entry in server.get_model_repository_index()}
    assert (index["fixed"]["version"], index["fixed"]["state"]) == ("1", "READY")
    assert index["garbage"]["state"] == "UNAVAILABLE"
    assert "garbage" in index["garbage"]["reason"]
    assert "seq(tensor(float))" in index["sequence"]["reason"]
    server.unload_model("fixed")
    assert not server.is_model_ready("fixed")
    array = np.zeros((3, 2), np.float32)
    with pytest.raises(InferenceServerException, match="not served") as refused:
        server.infer(**ask(triton, "fixed", "FP32", array, True, True))
    assert refused.value.status() == "404"
    server.load_model("fixed")
    assert server.infer(**ask(triton, "fixed", "FP32", array, True, True)).as_numpy("y").shape == (2, 3)
    with pytest.raises(InferenceServerException, match="no model 'nothing'"):
        server.load_model("nothing")
    with pytest.raises(InferenceServerException, match="garbage"):
        server.load_model("garbage")


def test_statistics_count_requests_and_rows(server: Any) -> None:
    def counts() -> Any:
        (model,) = server.get_inference_statistics("transposing")["model_stats"]
        return model

    array = np.zeros((2, 3), np.float32)
    before = counts()
    for _ in range(3):
        server.infer(**ask(triton, "transposing", "FP32", array, True, True))
    with pytest.raises(InferenceServerException):
        server.infer(**ask(triton, "transposing", "FP32", array[0], True, True))
    after = counts()
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 3
    assert after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
    assert after["execution_count"] - before["execution_count"] == 3
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert after["last_inference"] > 1_700_000_000_000
    assert after["batch_stats"][0]["batch_size"] == 1
    assert server.get_inference_statistics("transposing", "1")["model_stats"][0]["version"] == "1"
    assert len(server.get_inference_statistics()["model_stats"]) > 20


def test_classification(server: Any) -> None:
    tensor = triton.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[0.25, 0.75]], np.float32))
    for binary in (False, True):
        outputs = [triton.InferRequestedOutput("y", binary_data=binary, class_count=2)]
        answer = server.infer("labelled", [tensor], outputs=outputs).as_numpy("y")
        assert texts(answer) == ["0.750000:1:high", "0.250000:0:low"]


def test_request_id_timeout_and_parameters(server: Any) -> None:
    array = np.zeros((1, 2), np.float32)
    answer = server.infer(
        **ask(triton, "doubling", "FP32", array, True, True, request_id="r-7", timeout=5_000_000, parameters={"a": "b"})
    ).get_response()
    assert answer["id"] == "r-7"
    assert answer["model_version"] == "1"
    assert answer["parameters"].keys() == {"prediction_id", "variant", "route"}


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(server: Any, algorithm: str) -> None:
    array = np.ones((4, 2), np.float32)
    for binary in (False, True):
        asked = ask(triton, "doubling", "FP32", array, binary, binary, request_compression_algorithm=algorithm)
        assert np.array_equal(server.infer(**asked).as_numpy("y"), array * 2)


def test_requested_version_is_used_or_refused(server: Any) -> None:
    array = np.ones((1, 2), np.float32)
    answer = server.infer(**ask(triton, "doubling", "FP32", array, True, True, model_version="1"))
    assert answer.get_response()["parameters"]["variant"] == "pinned"
    with pytest.raises(InferenceServerException, match="served are 1"):
        server.infer(**ask(triton, "doubling", "FP32", array, True, True, model_version="9"))
