"""The server of a remote version, as remote.yaml describes it: its addresses, paths, headers and certificates; and
questions about the model, each on a connection of its own.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson

from gateway.backends.remote.connection import Broken, Connection, Response
from gateway.errors import ModelUnavailable, ServerUnreachable
from gateway.settings.load import load_remote

ASK_S: Final = 5.0
CONNECT_S: Final = 3.0
MAX_METADATA_BYTES: Final = 4 << 20
BINARY: Final = "binary_tensor_data"


class Server:
    """`file`: the remote.yaml of a version of the model `name`. Raises SettingsError, or ModelUnavailable if a file or
    variable that it names is missing.
    """

    def __init__(self, name: str, file: Path) -> None:
        self.settings = settings = load_remote(file)
        self.model = settings.model or name
        version = f"/versions/{quote(settings.version, safe='')}" if settings.version else ""
        self.path = f"/v2/models/{quote(self.model, safe='')}{version}"
        try:
            headers = settings.header_values(file)
            self.tls = self._context(file.parent)
        except (ValueError, OSError) as error:
            raise ModelUnavailable(f"{file}: {error}") from None
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    def __str__(self) -> str:
        version = f" version {self.settings.version}" if self.settings.version else ""
        return f"{', '.join(self.settings.url)} (model {self.model}{version})"

    async def connect(self, url: str, closed: Callable[[Connection], None], max_body: int) -> Connection:
        """A new connection. Raises OSError (also for TLS) or TimeoutError."""
        parts = urlsplit(url)
        tls = self.tls if parts.scheme == "https" else None
        host = parts.hostname or ""
        port = parts.port or (443 if tls else 80)
        async with asyncio.timeout(CONNECT_S):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(closed, max_body), host, port, ssl=tls
            )
        return connection

    def head(self, url: str, path: str, method: str = "POST") -> bytes:
        """The start of a request's head; its last headers and an empty line must follow."""
        parts = urlsplit(url)
        return f"{method} {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{self._headers}".encode()

    async def metadata(self) -> tuple[dict[str, Any], bool]:
        """What the server says of the model, and whether it takes binary tensors. Raises ServerUnreachable."""
        problems = []
        for url in self.settings.url:
            try:
                found = await self._json(url, self.path)
                return found, await self._takes_binary(url)
            except (OSError, TimeoutError, Broken, ValueError) as error:
                problems.append(f"{url}: {error or 'it did not answer'}")
        raise ServerUnreachable(f"its server does not describe the model '{self.model}': {'; '.join(problems)}")

    async def is_ready(self, url: str) -> bool:
        """Whether the model is ready at this address."""
        try:
            return (await self._get(url, f"{self.path}/ready")).status == 200
        except (OSError, TimeoutError, Broken):
            return False

    async def _takes_binary(self, url: str) -> bool:
        try:
            extensions = (await self._json(url, "/v2")).get("extensions")
        except ValueError:
            return False
        return isinstance(extensions, list) and BINARY in extensions

    async def _json(self, url: str, path: str) -> dict[str, Any]:
        response = await self._get(url, path)
        if response.status != 200:
            raise ValueError(f"GET {path} was answered with {response.status}{words_of(response, ': ')}")
        found = orjson.loads(response.body)
        if not isinstance(found, dict):
            raise ValueError(f"GET {path} was not answered with a JSON object")
        return found

    async def _get(self, url: str, path: str) -> Response:
        answered: asyncio.Future[Response | Broken] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(ASK_S):
            connection = await self.connect(url, lambda _: None, MAX_METADATA_BYTES)
            try:
                head = self.head(url, path, "GET") + b"Connection: close\r\n\r\n"
                connection.send([head], lambda _, found: None if answered.done() else answered.set_result(found))
                response = await answered
            finally:
                connection.abort()
        if isinstance(response, Broken):
            raise response
        return response

    def _context(self, folder: Path) -> ssl.SSLContext | None:
        tls = self.settings.tls
        if not any(url.startswith("https:") for url in self.settings.url):
            return None
        try:
            context = ssl.create_default_context(cafile=None if tls.ca is None else str(folder / tls.ca))
            if tls.certificate and tls.key:
                context.load_cert_chain(folder / tls.certificate, folder / tls.key)
        except OSError as error:
            raise ValueError(f"tls: {tls.ca or ''} {tls.certificate or ''} {tls.key or ''}: {error}") from None
        return context


def words_of(response: Response, before: str = "") -> str:
    """The server's own words for an error, in one line; empty if there are none."""
    try:
        found = orjson.loads(response.body)
        text = found.get("error") or found.get("detail") or "" if isinstance(found, dict) else ""
    except ValueError:
        text = response.body[:1000].decode(errors="replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[:2000]).split())[:300]
    return before + line if line else ""
