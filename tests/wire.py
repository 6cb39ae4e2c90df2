"""Requests as raw bytes on a connection, and models that run as long as their input says."""

import json
import socket
import struct
from pathlib import Path
from typing import Any, NamedTuple

from tests.backends import onnx_models
from tests.running import GatewayProcess

PATIENCE_S = 30.0
KEEP_ALIVE_S = 5.0  # uvicorn's
SMALL_BODY = 65536  # up to here a body goes the short way
LONG = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [20_000]}]}  # beyond 200 µs: in a thread


class Reply(NamedTuple):
    """One answer as received."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A raw connection to the gateway; `port`: another one than that of the data plane."""

    def __init__(self, gateway: GatewayProcess, port: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port or gateway.port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, *packets: bytes) -> "Wire":
        for packet in packets:
            self.socket.sendall(packet)
        return self

    def read(self) -> Reply:
        """The next answer; a connection that ends instead is an error."""
        status = self._reader.readline()
        assert status.startswith(b"HTTP/1.1 "), f"no answer but {status!r}"
        lines = iter(lambda: self._reader.readline().decode().rstrip("\r\n"), "")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Reply(int(status.split()[1]), headers, self._reader.read(int(headers.get("content-length", "0"))))

    def ended(self) -> bool:
        """Whether the gateway closes the connection without another byte. Waits for either."""
        return self._reader.read(1) == b""

    def close(self) -> None:
        self._reader.close()
        self.socket.close()

    def reset(self) -> None:
        """Abort the connection with a reset, as a crashed client does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def looping_models(folder: Path, *names: str) -> Path:
    """Models that run as long as their input says, each in a thread of its own, beside a short one: doubling."""
    for name in names:
        onnx_models.looping(folder / name / "1" / "model.onnx")
        (folder / name / "warmup.json").write_text(json.dumps(LONG))
    onnx_models.doubling(folder / "doubling" / "1" / "model.onnx")
    return folder


def row(**parameters: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    return {"inputs": [tensor], "parameters": parameters}


def turns(count: int, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [count]}
    return {"inputs": [tensor], "parameters": parameters}


def post(model: str, document: Any, *headers: str, version: str = "1.1", pad: int = 0) -> bytes:
    """An inference request; `document` may be raw bytes, and is padded to `pad` bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode().ljust(pad)
    lines = [f"POST /v2/models/{model}/infer HTTP/{version}", "Host: gateway", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str, *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: gateway", *headers, "", ""]).encode()


def doubled(number: int = 0, **options: Any) -> bytes:
    return post("doubling", {**row(), "id": str(number)}, **options)


def chunked(*trailers: str, pad: int = 0) -> bytes:
    """The request, in chunks of 1 KiB."""
    body = json.dumps(row()).encode().ljust(pad)
    chunks = [body[start : start + 1024] for start in range(0, len(body), 1024)]
    head = b"POST /v2/models/doubling/infer HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + coded + "\r\n".join(["0", *trailers, "", ""]).encode()
