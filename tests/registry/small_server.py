"""A small server that answers as MLflow's registry does, or as it never should."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

MLMODEL = b"flavors:\n  onnx:\n    data: model.onnx\n"
LOGGED = "m-0123"
Answer = Callable[["Handler", dict[str, str]], None]


class SmallRegistry:
    """`aliases`, and `files` by path: of every model and version; `tags` by version. `answers`: what to do instead, by
    the path's last part. As a context: it serves.
    """

    def __init__(self, **files: bytes) -> None:
        self.aliases: dict[str, str] = {}
        self.files: dict[str, bytes] = {"MLmodel": MLMODEL, "model.onnx": b"onnx", **files}
        self.tags: dict[str, dict[str, str]] = {}  # by version
        self.answers: dict[str, Answer] = {}
        self.calls: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.registry = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "SmallRegistry":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write(self, method: str, what: str, said: dict[str, str]) -> bool:
        """Set or delete an alias or a tag; False if there is nothing to delete, or no such version."""
        if what == "set-tag":
            self.tags.setdefault(said["version"], {})[said["key"]] = said["value"]
            return True
        if what == "delete-tag":
            return self.tags.get(said["version"], {}).pop(said["key"], None) is not None
        if method == "DELETE":
            return self.aliases.pop(said["alias"], None) is not None
        self.aliases[said["alias"]] = said["version"]
        return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet: else each answer takes 40 ms

    def do_GET(self) -> None:
        registry: SmallRegistry = self.server.registry  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        what = parts.path.rpartition("/")[2]
        registry.calls.append(f"{self.command} {parts.path}")
        registry.headers.append({name.lower(): value for name, value in self.headers.items()})
        said = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if answer := registry.answers.get(f"{parts.path.split('/')[-2]}/{what}") or registry.answers.get(what):
            answer(self, query)
        elif parts.path.endswith("registered-models/get"):
            aliases = [{"alias": alias, "version": version} for alias, version in registry.aliases.items()]
            self.say({"registered_model": {"name": query["name"], "aliases": aliases}})
        elif parts.path.endswith("model-versions/get"):
            tags = [{"key": key, "value": value} for key, value in registry.tags.get(query["version"], {}).items()]
            version = {"name": query["name"], "version": query["version"], "source": f"models:/{LOGGED}"}
            self.say({"model_version": {**version, "tags": tags}})
        elif self.command != "GET" and registry.write(self.command, what, said):
            self.say({})
        elif what == "directories":
            self.say({"files": list(listed(registry.files, query.get("artifact_directory_path", "")))})
        elif what == "get-artifact" and query["path"] in registry.files:
            self.send(registry.files[query["path"]])
        else:
            self.say({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}, 404)

    do_POST = do_DELETE = do_GET

    def say(self, document: Any, status: int = 200) -> None:
        self.send(json.dumps(document).encode(), status)

    def send(self, content: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
        self.close_connection = length is not None

    def log_message(self, format: str, *args: Any) -> None:
        pass


def listed(files: dict[str, bytes], folder: str) -> Any:
    """The entries of a folder, as MLflow lists them."""
    inside = f"{folder}/" if folder else ""
    seen = set()
    for path, content in files.items():
        if path.startswith(inside):
            name, _, rest = path[len(inside) :].partition("/")
            if name not in seen:
                seen.add(name)
                yield {"path": f"{inside}{name}", "is_dir": bool(rest)} | ({} if rest else {"file_size": len(content)})
