"""Serves the web console: one page and its assets, all from this origin, under a strict content security policy."""

from functools import partial
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.endpoint import Endpoint
from gateway.control.api.openapi import Operation

FOLDER: Final = files("gateway.control") / "console"
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
MEDIA_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
INDEX: Final = "index.html"


class ConsoleFiles:
    """GET / and the assets that the page loads. They hold no data, so they need no key: the page asks for one."""

    def __init__(self) -> None:
        self._files = {entry.name: entry.read_bytes() for entry in FOLDER.iterdir() if entry.is_file()}

    def endpoints(self) -> list[Endpoint]:
        parts = sorted(name for name in self._files if name != INDEX)
        return [self._endpoint("/", INDEX), *(self._endpoint(f"/console/{name}", name) for name in parts)]

    def _endpoint(self, path: str, name: str) -> Endpoint:
        media = MEDIA_TYPES[name.rpartition(".")[2]]
        operation = Operation("GET", path, f"console_{name.replace('.', '_')}", "The console.", media=media)
        return Endpoint(operation, partial(self._send, name, media))

    async def _send(self, name: str, media: str, request: Request) -> Response:
        return Response(self._files[name], media_type=media, headers=HEADERS)
