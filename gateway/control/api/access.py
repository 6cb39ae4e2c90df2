"""Authentication and authorization for the control plane's HTTP API.

Without keys only clients on this machine are served, and no web page in a browser on it: neither one that posts from
another site (CSRF) nor one whose host name was made to resolve to this machine (DNS rebinding).
"""

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth.keyring import Identity, Keyring
from gateway.errors import InvalidRequest, NotFound, RequestError, UnsupportedMedia
from gateway.settings import keys
from gateway.web.authentication import RequiredScopes, authenticate, refuse_cross_site
from gateway.web.body import Headers
from gateway.web.responses import send_error
from gateway.web.timeouts import TIMEOUT_S, with_body_timeout

READ_SCOPES: Final[RequiredScopes] = frozenset({keys.Scope.READ, keys.Scope.OPERATE})
OPERATE_SCOPES: Final[RequiredScopes] = frozenset({keys.Scope.OPERATE})
PUBLIC_PATHS: Final = ("/", "/health")  # the page itself holds no data; it asks for a key
METRICS_PATH: Final = "/metrics"
PUBLIC_PREFIX: Final = "/console/"  # the page's scripts, styles and images
SIGNED_PATH: Final = "/api/registry/hint"  # its body is signed, which needs no key and is no matter for browsers
READ_ONLY_POSTS: Final = ("/api/explain",)  # posts that change nothing
SAFE_METHODS: Final = ("GET", "HEAD")
UPLOAD_PATH: Final = re.compile(r"/api/releases/[^/]+/propose")  # its body has time-outs of its own, and is no JSON
UPLOAD_TYPE: Final = "application/x-tar"
LOCAL_HOST: Final = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)


class MetricsPortMiddleware:
    """ASGI middleware that refuses at once, on `port`, whatever else is asked than the metrics. None: no such port."""

    def __init__(self, application: ASGIApp, port: int | None) -> None:
        self._application = application
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["method"], scope["path"]
        if self._port is not None and scope["server"][1] == self._port and asked != ("GET", METRICS_PATH):
            await send_error(send, NotFound(f"this port serves GET {METRICS_PATH} alone; the rest is on control.port"))
            return
        await self._application(scope, receive, send)


class ControlAuthMiddleware:
    """ASGI middleware that passes permitted requests on to `application`; `keyring` None: no keys are required.
    `metrics_port`: see `control_app`.

    It sets the scope's `identity` to the caller's Identity, or None.
    """

    def __init__(self, application: ASGIApp, keyring: Keyring | None, metrics_port: int | None = None) -> None:
        self._application = application
        self._keyring = keyring
        self._metrics_port = metrics_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["identity"] = self._authenticate(scope, dict(scope["headers"]))
        except RequestError as error:
            await send_error(send, error)
            return
        await self._application(scope, receive if is_upload(scope) else with_body_timeout(receive, TIMEOUT_S), send)

    def _authenticate(self, scope: Scope, headers: Headers) -> Identity | None:
        if self._metrics_port is not None and scope["server"][1] == self._metrics_port:
            return None  # nothing else passes
        if is_signed(scope):
            return None
        if self._keyring is None:
            _refuse_other_names(headers)
        if scope["method"] not in SAFE_METHODS:
            refuse_cross_site(headers)
            _refuse_forms(headers, UPLOAD_TYPE if is_upload(scope) else "application/json")
        need = required_scopes(scope["method"], scope["path"])
        if self._keyring is None or need is None:
            return None
        return authenticate(self._keyring, headers, scope["query_string"], need)


def is_upload(scope: Scope) -> bool:
    """Whether the request brings files."""
    return scope["method"] == "POST" and UPLOAD_PATH.fullmatch(scope["path"]) is not None


def is_signed(scope: Scope) -> bool:
    """Whether the request's body is signed: anyone may send one, and as slowly as the time-outs let it be."""
    return (scope["method"], scope["path"]) == ("POST", SIGNED_PATH)


def required_scopes(method: str, path: str) -> RequiredScopes | None:
    """The scopes of which a key must have one for this request; None: no key is needed."""
    if (method, path) == ("POST", SIGNED_PATH):
        return None
    if method not in SAFE_METHODS and path not in READ_ONLY_POSTS:
        return OPERATE_SCOPES
    return None if path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIX) else READ_SCOPES


def possible_errors(method: str, path: str) -> tuple[int, ...]:
    """The error statuses that this middleware may return, for the OpenAPI document."""
    return (400,) if required_scopes(method, path) is None else (400, 401, 403)


def _refuse_other_names(headers: Headers) -> None:
    """Raises InvalidRequest if the Host header names another machine, as after DNS rebinding."""
    if not LOCAL_HOST.fullmatch(headers.get(b"host", b"")):
        raise InvalidRequest("the Host header must name this machine, such as localhost, unless auth.keys is set")


def _refuse_forms(headers: Headers, served: str) -> None:
    """Raises UnsupportedMedia for a body that an HTML form could send; for the type `served` a browser first sends a
    CORS preflight.
    """
    empty = headers.get(b"content-length", b"0").strip() == b"0" and b"transfer-encoding" not in headers
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if not empty and kind != served.encode():
        without = ", or none, with content-length 0" if served == UPLOAD_TYPE else ""
        raise UnsupportedMedia(f"send the body as content-type: {served}{without}")
