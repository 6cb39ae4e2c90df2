"""HTTP to an MLflow server, which is not trusted: answers are limited in size and time, and redirects are not followed.

A slow or endless answer ends at a deadline of its own: the timeouts of httpx are between two bytes.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import httpx
import orjson

from gateway.errors import RegistryError, RegistryNotFound, RegistrySilent, RegistryUnavailable
from gateway.system.printable import printable

MAX_JSON_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 1 << 20
PIECE_TIMEOUT_S: Final = 30.0  # for a piece of a file to arrive
FIRST_BYTE_TIMEOUT_S: Final = 300.0  # a server in front of a store for objects fetches the whole file first
MAX_MESSAGE: Final = 300  # characters of the server's own words in an error
_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, OSError)
_NO_ANSWER: Final = (httpx.NetworkError, httpx.TimeoutException, OSError)
_PASSING: Final = frozenset((408, 425, 429))  # and all from 500 on
_JSON: Final = "application/json"
Params = Mapping[str, str]


class Download:
    """A file as it arrives. `size`: its bytes by the server's headers, None if they do not say."""

    def __init__(self, response: httpx.Response, label: str, piece_timeout_s: float) -> None:
        length = response.headers.get("content-length", "")
        self.size = int(length) if length.isdigit() and len(length) < 18 else None
        self._response = response
        self._label = label
        self._piece_timeout_s = piece_timeout_s

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        """The content, which must have `size` bytes. Raises RegistryUnavailable if it has not, or arrives too slowly;
        the time that the caller takes between two chunks does not count.
        """
        loop, arriving = asyncio.get_running_loop(), aiter(self._response.aiter_raw())
        total, piece, left_s = 0, 0, self._piece_timeout_s
        while True:
            began_s = loop.time()
            try:
                async with asyncio.timeout(left_s):
                    chunk = await anext(arriving, None)
            except TimeoutError:
                raise RegistryUnavailable(
                    f"{self._label}: less than {PIECE_BYTES >> 20} MiB arrived within {self._piece_timeout_s:g} s"
                ) from None
            except _ERRORS as error:
                raise RegistryUnavailable(f"{self._label}: the file is cut off: {_reason(error)}") from None
            if chunk is None:
                break
            left_s -= loop.time() - began_s
            total, piece = total + len(chunk), piece + len(chunk)
            if total > size:
                raise RegistryUnavailable(f"{self._label}: more than the {size} bytes arrive that it should have")
            if piece >= PIECE_BYTES:
                piece, left_s = 0, self._piece_timeout_s
            yield chunk
        if total != size:
            raise RegistryUnavailable(f"{self._label}: the file is cut off after {total} of {size} bytes")


class MlflowHttp:
    """`url`: of the server, with a path if it has one. `user`: for HTTP Basic with the token as password, as MLflow's
    own authentication wants it; empty: the token is a bearer's. `ca`: a file of certificates to trust instead of the
    system's. `timeout_s`: of a call; `piece_timeout_s`: of PIECE_BYTES of a file. `may_write`: asked before each call
    that changes something. Used on one event loop; all methods raise RegistryError.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        user: str = "",
        ca: str | None = None,
        timeout_s: float = 10.0,
        piece_timeout_s: float = PIECE_TIMEOUT_S,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self.url = url.rstrip("/")
        self._may_write = may_write
        self._headers = {"accept-encoding": "identity", "user-agent": "canary-gateway"} | _authorization(user, token)
        self._ca = ca
        self._timeout_s = timeout_s
        self._piece_timeout_s = piece_timeout_s
        self._http: httpx.AsyncClient | None = None

    async def call(
        self, method: str, path: str, params: Params | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The JSON object that the server answers."""
        if method != "GET" and not self._may_write():
            raise RegistryError(f"{self._label(path)} is not called: another host follows the registry now")
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"content-type": _JSON}
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._answer(method, path, params, content=content, headers=headers) as response:
                    read = await _limited(response, MAX_JSON_BYTES, self._label(path))
        except TimeoutError:
            raise RegistrySilent(f"{self._label(path)}: no answer within {self._timeout_s:g} s") from None
        document = _object(read)
        if document is None:
            raise RegistryUnavailable(f"{self._label(path)}: the answer is no JSON object; is this an MLflow server?")
        return document

    @contextlib.asynccontextmanager
    async def download(self, path: str, params: Params) -> AsyncIterator[Download]:
        """A file, to be read while the context lasts."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(FIRST_BYTE_TIMEOUT_S):
                    response = await stack.enter_async_context(self._answer("GET", path, params))
            except TimeoutError:
                raise RegistrySilent(f"{self._label(path)}: no answer within {FIRST_BYTE_TIMEOUT_S:g} s") from None
            yield Download(response, self._label(path), self._piece_timeout_s)

    async def close(self) -> None:
        """Close all connections; a later call opens them again."""
        if self._http is not None:
            http, self._http = self._http, None
            await http.aclose()

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, path: str, params: Params | None, **request: Any
    ) -> AsyncIterator[httpx.Response]:
        """The response with status 200, its body unread."""
        label = self._label(path)
        client = await self._client()
        try:
            sent = client.build_request(method, f"{self.url}{path}", params=params, **request)
            response = await client.send(sent, stream=True)
        except _ERRORS as error:
            silent = isinstance(error, _NO_ANSWER)  # else it has answered something that is none
            kind = RegistrySilent if silent else RegistryUnavailable
            raise kind(f"{label} cannot be reached: {_reason(error)}") from None
        try:
            if response.status_code != 200:
                raise await _refusal(response, label)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise RegistryUnavailable(f"{label}: the answer is compressed, though that was not asked for")
            yield response
        finally:
            await response.aclose()

    async def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            verify: ssl.SSLContext | bool = False  # without TLS there is nothing to verify
            if self.url.startswith("https:"):
                try:
                    verify = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca)  # reads many files
                except OSError as error:
                    raise RegistryError(f"{self._ca} cannot be used: {error.strerror or error}") from None
            self._http = self._http or httpx.AsyncClient(
                headers=self._headers, timeout=None, trust_env=False, verify=verify, follow_redirects=False
            )
        return self._http

    def _label(self, path: str) -> str:
        return f"{self.url}{path}"


def _authorization(user: str, token: str) -> dict[str, str]:
    if not token:
        return {}
    basic = base64.b64encode(f"{user}:{token}".encode()).decode()
    return {"authorization": f"Basic {basic}" if user else f"Bearer {token}"}


async def _refusal(response: httpx.Response, label: str) -> RegistryError:
    """The error for a status other than 200."""
    status = response.status_code
    if response.is_redirect:
        to = printable(response.headers.get("location", "")[:MAX_MESSAGE])
        return RegistryError(f"{label} redirects to {to}, which is not followed; give the server's own address")
    try:
        said = _object(await _limited(response, MAX_JSON_BYTES, label)) or {}
    except RegistryUnavailable:
        said = {}
    message = said.get("message")
    words = f"{label} answers {status}" + (
        f": {printable(message[:MAX_MESSAGE])}" if isinstance(message, str) and message else ""
    )
    if status in (401, 403):
        return RegistryError(f"{words}; look at registry.mlflow.token, and at what its owner may do")
    if status == 404:  # of a proxy, too: only MLflow's own words say that there is no such thing
        missing = said.get("error_code") == "RESOURCE_DOES_NOT_EXIST"
        return RegistryNotFound(words) if missing else RegistryUnavailable(f"{words}; is this an MLflow server?")
    return RegistryUnavailable(words) if status >= 500 or status in _PASSING else RegistryError(words)


async def _limited(response: httpx.Response, max_bytes: int, label: str) -> bytes:
    read = bytearray()
    try:
        async for chunk in response.aiter_raw():
            read += chunk
            if len(read) > max_bytes:
                raise RegistryUnavailable(f"{label}: the answer is larger than {max_bytes >> 10} KiB")
    except _ERRORS as error:
        raise RegistryUnavailable(f"{label}: the answer is cut off: {_reason(error)}") from None
    return bytes(read)


def _object(read: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(read)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _reason(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__
