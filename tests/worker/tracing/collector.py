"""A collector like OpenTelemetry's: accepts spans by OTLP over HTTP, or refuses them."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.processes.flawed import until


class Collector:
    """A context manager that listens on a free port. `status`: its answer; `headers`: those of the last request."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, dict(self.headers.items()), body)
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        assert path == "/v1/traces"
        self.headers = headers
        if self.status == 200:
            raw = gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
            self.requests.append(ExportTraceServiceRequest.FromString(raw))

    @property
    def spans(self) -> list[Any]:
        """The accepted spans, in the order of arrival."""
        return [
            span for request in self.requests for of in request.resource_spans for by in of.scope_spans
            for span in by.spans
        ]  # fmt: skip

    @property
    def resources(self) -> list[dict[str, Any]]:
        """The attributes of each batch's resource."""
        return [attributes(of.resource) for request in self.requests for of in request.resource_spans]

    def wait(self, count: int) -> list[Any]:
        """Wait for so many spans, and return them."""
        until(lambda: len(self.spans) >= count, f"{count} spans")
        assert len(self.spans) == count
        return self.spans


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span or resource, by name."""
    return {attribute.key: _value(attribute.value) for attribute in of.attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, str(value.WhichOneof("value")))
