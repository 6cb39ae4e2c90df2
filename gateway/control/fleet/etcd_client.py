"""Calls to etcd's JSON gateway: endpoints one after the other, authentication, and what its errors mean."""

import ssl
from collections.abc import AsyncGenerator
from typing import Final

import httpx
import orjson

from gateway.control.fleet.etcd_messages import Message
from gateway.control.fleet.store import StoreUnavailable
from gateway.settings.store_url import StoreUrl

NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout)
ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)  # also of files, and of replies not in JSON
REMEDIES: Final = (  # by a part of etcd's text
    ("space exceeded", "compact and defragment it, disarm the alarm, and start it with --auto-compaction-retention=5m"),
    ("too many operations", "start it with a greater --max-txn-ops"),
    ("request is too large", "start it with a greater --max-request-bytes"),
    ("message larger than max", "start it with a greater --max-request-bytes"),
    ("user name is empty", "it wants a user: give user:password@ in the URL"),
    ("invalid user ID or password", "it wants another user or password: give it in the URL"),
    ("authentication is not enabled", "it has no users: take the user out of the URL"),
    ("permission denied", "grant the user's role readwrite on the prefix gateway/"),
    ("no leader", "it has lost its quorum, or elects a leader, which passes"),
    ("request timed out", "it has lost its quorum, or its disk is slow"),
    ("CERTIFICATE", "its certificate is not trusted: give the authority's with ?ca=FILE"),
)
NO_ETCD: Final = "it answers, but is no etcd of version 3.4 or later"
TOKEN_LOST: Final = ("invalid auth token", "revision of auth store is old", "user name is empty")


class EtcdClient:
    """Used by one task at a time. A call goes to the endpoint that answered last, after an error to the next."""

    def __init__(self, url: StoreUrl, timeout_s: float) -> None:
        self._url = url
        self._connect_s = timeout_s / len(url.hosts)
        self._endpoint = 0
        self._token = ""
        self._http: httpx.AsyncClient | None = None

    async def call(self, path: str, message: Message) -> Message:
        """Return the reply. Raises StoreUnavailable."""
        if self._url.username and not self._token:
            await self._authenticate()
        reply = await self._post(path, message)
        if self._url.username and any(mark in problem_of(reply) for mark in TOKEN_LOST):  # it was not carried out
            await self._authenticate()
            reply = await self._post(path, message)
        return self._checked(reply)

    async def results(self, path: str, message: Message, idle_s: float) -> AsyncGenerator[Message, None]:
        """The results of a call that does not end, until `idle_s` have passed without one. Raises StoreUnavailable."""
        if self._url.username:
            await self._authenticate()
        try:
            request = self._request(path, message, idle_s)
            response = await self._client().send(request, stream=True)
            try:
                async for line in response.aiter_lines():
                    if line:
                        yield self._checked(message_of(line))["result"]
            finally:
                await response.aclose()
        except httpx.ReadTimeout:
            return
        except ERRORS as error:
            raise self._failed(error) from None
        except BaseException:  # cancelled, as it did not begin in time
            self._next()
            raise
        raise self._failed(ConnectionError("it has ended the watch"))

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _authenticate(self) -> None:
        user = {"name": self._url.username, "password": self._url.password}
        self._token = ""
        self._token = self._checked(await self._post("/v3/auth/authenticate", user))["token"]

    async def _post(self, path: str, message: Message) -> Message:
        """The reply, which may be an error. The next endpoint is tried only if nothing has been sent."""
        for _ in self._url.hosts[1:]:
            try:
                return await self._post_to_one(path, message)
            except NOT_SENT:
                self._next()
        try:
            return await self._post_to_one(path, message)
        except NOT_SENT as error:
            raise self._failed(error) from None

    async def _post_to_one(self, path: str, message: Message) -> Message:
        try:
            response = await self._client().send(self._request(path, message))
            return message_of(response.content)
        except NOT_SENT:
            raise
        except ERRORS as error:
            raise self._failed(error) from None
        except BaseException:  # cancelled, as it took too long
            self._next()
            raise

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            verify = self._tls() if self._url.scheme == "etcds" else False  # without TLS there is nothing to verify
            self._http = httpx.AsyncClient(trust_env=False, verify=verify)
        return self._http

    def _tls(self) -> ssl.SSLContext:
        certificate = self._url.file("cert")
        context = ssl.create_default_context(cafile=self._url.file("ca"))
        if certificate is not None:
            context.load_cert_chain(certificate, self._url.file("key"))
        return context

    def _request(self, path: str, message: Message, read_s: float | None = None) -> httpx.Request:
        host, port = self._url.hosts[self._endpoint]
        scheme = "https" if self._url.scheme == "etcds" else "http"
        address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        headers = {"authorization": self._token} if self._token else {}
        timeout = httpx.Timeout(None, connect=self._connect_s, read=read_s)
        return self._client().build_request(
            "POST", address + path, content=orjson.dumps(message), headers=headers, timeout=timeout
        )

    def _next(self) -> None:
        self._endpoint = (self._endpoint + 1) % len(self._url.hosts)

    def _checked(self, reply: Message) -> Message:
        problem = problem_of(reply) or ("" if "header" in reply or "result" in reply else NO_ETCD)
        if problem:
            raise self._failed(RuntimeError(problem))
        return reply

    def _failed(self, error: Exception) -> StoreUnavailable:
        self._next()
        text = str(error) or type(error).__name__
        remedy = next((f": {remedy}" for mark, remedy in REMEDIES if mark in text), "")
        return StoreUnavailable(f"{self._url.label}: {text}{remedy}")


def message_of(text: str | bytes) -> Message:
    """The message. Raises ValueError if it is none."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        raise ValueError(NO_ETCD)
    return message


def problem_of(reply: Message) -> str:
    """The text of an error, or an empty one."""
    error = reply.get("error", "")
    if isinstance(error, dict):  # of a stream
        return str(error.get("message", error))
    return str(reply.get("message", error)) if "code" in reply or error else ""
