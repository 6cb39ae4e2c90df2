"""The reference: about ten lines of ASGI that parse V2, run ONNX Runtime in line and answer. No routing, no batching.

`python -m loadtests.bare MODEL.onnx PORT [binary]`
"""

import sys
from typing import Any

import numpy as np
import onnxruntime
import orjson

from loadtests.asgi import serve


def application(session: Any, binary: bool) -> Any:
    async def infer(scope: Any, receive: Any, send: Any) -> None:
        parts = []
        more = True
        while more:
            message = await receive()
            parts.append(message["body"])
            more = message["more_body"]
        body = b"".join(parts)
        head = dict(scope["headers"])
        if binary:
            length = int(head[b"inference-header-content-length"])
            tensor = orjson.loads(body[:length])["inputs"][0]
            x = np.frombuffer(memoryview(body)[length:], np.float32).reshape(tensor["shape"])
        else:
            tensor = orjson.loads(body)["inputs"][0]
            x = np.asarray(tensor["data"], np.float32).reshape(tensor["shape"])
        y = session.run(None, {tensor["name"]: x})[0]
        output = {"name": "y", "datatype": "FP32", "shape": y.shape}
        headers = [(b"content-type", b"application/json")]
        if binary:
            raw = y.tobytes()
            output["parameters"] = {"binary_data_size": len(raw)}
            text = orjson.dumps({"model_name": "m", "model_version": "1", "outputs": [output]})
            headers.append((b"inference-header-content-length", b"%d" % len(text)))
            answer = text + raw
        else:
            output["data"] = y.ravel().tolist()
            answer = orjson.dumps({"model_name": "m", "model_version": "1", "outputs": [output]})
        headers.append((b"content-length", b"%d" % len(answer)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return infer


if __name__ == "__main__":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    loaded = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    serve(application(loaded, "binary" in sys.argv[3:]), int(sys.argv[2]))
