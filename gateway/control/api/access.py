"""Who may ask the control plane for what.

Without keys it serves this machine only, and no page that a browser of this machine shows: neither one that posts here
from another site (CSRF) nor one whose name has been made to point here (DNS rebinding).
"""

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth.keyring import Identity, Keyring
from gateway.errors import InvalidRequest, RequestError, UnsupportedMedia
from gateway.settings import keys
from gateway.web.authentication import RequiredScopes, authenticated, refuse_other_sites
from gateway.web.body import Headers
from gateway.web.responses import send_error
from gateway.web.timeouts import WITHIN_S, with_body_timeout

READ: Final[RequiredScopes] = frozenset({keys.Scope.READ, keys.Scope.OPERATE})
OPERATE: Final[RequiredScopes] = frozenset({keys.Scope.OPERATE})
OPEN: Final = ("/", "/health")  # the page itself holds nothing; it asks for a key
OPEN_BELOW: Final = "/console/"  # what the page is made of
ASKING: Final = ("/api/explain",)  # posts that change nothing
SAFE: Final = ("GET", "HEAD")
THIS_MACHINE: Final = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)


class ControlAuthMiddleware:
    """Lets through to `application` what is allowed; `keyring` None: no keys are asked for.

    The application finds who asks in its scope: `identity`, an Identity or None.
    """

    def __init__(self, application: ASGIApp, keyring: Keyring | None) -> None:
        self._application = application
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["identity"] = self._admitted(scope, dict(scope["headers"]))
        except RequestError as error:
            await send_error(send, error)
            return
        await self._application(scope, with_body_timeout(receive, WITHIN_S), send)

    def _admitted(self, scope: Scope, headers: Headers) -> Identity | None:
        if self._keyring is None:
            _refuse_other_names(headers)
        if scope["method"] not in SAFE:
            refuse_other_sites(headers)
            _refuse_forms(headers)
        need = need_of(scope["method"], scope["path"])
        if self._keyring is None or need is None:
            return None
        return authenticated(self._keyring, headers, scope["query_string"], need)


def need_of(method: str, path: str) -> RequiredScopes | None:
    """What a key must allow; None: no key is needed."""
    if method not in SAFE and path not in ASKING:
        return OPERATE
    return None if path in OPEN or path.startswith(OPEN_BELOW) else READ


def refused(method: str, path: str) -> tuple[int, ...]:
    """The statuses that the guard may answer with, for the OpenAPI document."""
    return (400,) if need_of(method, path) is None else (400, 401, 403)


def _refuse_other_names(headers: Headers) -> None:
    """Raises InvalidRequest where the client believes to talk to another machine."""
    if not THIS_MACHINE.fullmatch(headers.get(b"host", b"")):
        raise InvalidRequest("the Host header must name this machine, such as localhost, unless auth.keys is set")


def _refuse_forms(headers: Headers) -> None:
    """Raises UnsupportedMedia for a body that a form of any page could send; before JSON a browser asks."""
    empty = headers.get(b"content-length", b"0").strip() == b"0" and b"transfer-encoding" not in headers
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if not empty and kind != b"application/json":
        raise UnsupportedMedia("send the body as content-type: application/json")
