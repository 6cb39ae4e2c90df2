"""Talks to a gateway by KServe's own client; run by KServe's Python: kserve_client.py URL MODEL ROWS

Prints what each call of the client returned, or the error that it raised, as JSON. ROWS: a JSON list of rows.
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


async def main(url: str, model: str, rows: str) -> None:
    array = np.array(json.loads(rows), np.float32)
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        said = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model_ready": await client.is_model_ready(url, model),
            "other_ready": await client.is_model_ready(url, "other"),
        }
        for kind in ("json", "binary"):
            given = InferInput("image", list(array.shape), "FP32")
            given.set_data_from_numpy(array, binary_data=kind == "binary")
            asked = [RequestedOutput(name, {"binary_data": kind == "binary"}) for name in ("label", "probabilities")]
            request = InferRequest(model, [given], request_id=kind, request_outputs=asked)
            headers: dict[str, str] = {}
            answer = await client.infer(url, request, model, response_headers=headers)
            outputs = {output.name: output.as_numpy() for output in answer.outputs}
            said[kind] = {
                "id": answer.id,
                "model": answer.model_name,
                "version": answer.model_version,
                "binary": "inference-header-content-length" in headers,
                "label": outputs["label"].tolist(),
                "probabilities": outputs["probabilities"].shape,
                "prediction_id": answer.parameters["prediction_id"],
            }
        small = {"name": "image", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
        said["errors"] = {
            "model": await error_of(client.infer(url, request, "other")),
            "shape": await error_of(client.infer(url, {"inputs": [small]}, model)),
        }
    async with InferenceRESTClient(RESTConfig(protocol="v1", retries=0)) as client:
        said["errors"]["v1"] = await error_of(client.infer(url, {"instances": []}, model))
        said["errors"]["explain"] = await error_of(client.explain(url, model, {"instances": []}))
    print(json.dumps(said))


async def error_of(call) -> str:
    try:
        return f"no error: {await call}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


asyncio.run(main(*sys.argv[1:]))
