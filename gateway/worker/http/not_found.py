"""Error messages for paths that are not served: what is wrong, and what would be right."""

import re
from typing import Final

MAX_SHOWN_PATH: Final = 200  # characters of a path
MODEL_ROUTES: Final = "POST …/infer, GET …/ready, GET …/config and GET …/stats"
_V1: Final = re.compile(r"/v1/models/([^/:]+)(?::predict)?/?")
_MODEL: Final = re.compile(r"/v2/models/([^/]+)(?:/versions/[^/]+)?/.+", re.DOTALL)
_EXTENSIONS: Final = {
    "systemsharedmemory": "shared memory is not served; send the data in the body",
    "cudasharedmemory": "shared memory is not served; send the data in the body",
    "trace": "trace settings are not served; see tracing in gateway.yaml",
    "logging": "log settings are not served",
    "generate": "the generate extension is not served; POST …/infer is",
    "generate_stream": "the generate extension is not served; POST …/infer is",
}


def not_found_reason(path: str) -> str:
    """The error message for `path`, whose percent-escapes are decoded."""
    return f"{shown(path)} is not served{_reason(path)}"


def shown(path: str) -> str:
    """The path, shortened for a message."""
    return path if len(path) <= MAX_SHOWN_PATH else f"{path[:MAX_SHOWN_PATH]}…"


def _reason(path: str) -> str:
    if "//" in path:
        return ": it has two slashes in a row, so that a name is missing between them or one of them is too many"
    if len(path) > 1 and path.endswith("/"):
        return f": it ends in a slash; {shown(path.rstrip('/'))} does not"
    if (old := _V1.fullmatch(path)) is not None:
        return f": V1 of the protocol is not; V2 is, by POST /v2/models/{shown(old[1])}/infer"
    if path.startswith("/V2"):
        return "; paths are in small letters: /v2"
    return _other_reason(path)


def _other_reason(path: str) -> str:
    named = path.split("/")[1:]
    if named[0] == "v2":
        for part in (*named[1:2], *named[3:4], *named[5:6]):
            if part in _EXTENSIONS:
                return f": {_EXTENSIONS[part]}"
    if (model := _MODEL.fullmatch(path)) is not None:
        return f"; of the model {shown(model[1])} there are {MODEL_ROUTES}"
    if named[0] == "metrics":
        return " on this port; the control plane's has it"
    return "; GET /openapi.json lists the paths, GET /v2 and POST /v2/repository/index tell what is served"
