"""Authentication, authorization and rate limits of the data plane."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth.fleet_rate_limit import FleetRateLimiter, MustCount
from gateway.auth.keyring import Identity, Keyring
from gateway.auth.rate_limit import Quota, RateLimiter
from gateway.errors import CLOSE_CONNECTION, InvalidRequest, RequestError
from gateway.protocol.elements import short
from gateway.routing.attributes import Attributes
from gateway.settings import keys
from gateway.web.authentication import (
    ANY_SCOPE,
    RequiredScopes,
    authenticate,
    check_customer,
    customer_of,
    refuse_browsers,
    refuse_cross_site,
    refuse_remote,
)
from gateway.web.body import ENCODING, Headers
from gateway.web.responses import send_error
from gateway.web.timeouts import with_body_timeout

Count = Callable[[Quota], Awaitable[int]]
T = TypeVar("T")
SMALL_BYTES: Final = 16_384  # of a body that is read before its request is counted
PREDICT_SCOPES: Final[RequiredScopes] = frozenset({keys.Scope.PREDICT})
OPERATE_SCOPES: Final[RequiredScopes] = frozenset({keys.Scope.OPERATE})
# By prefix of the path; the first match wins, and all other paths need a key with any scope. Not by regular expression:
# the client chooses the path, and an expression that does not match a line break would let it in.
_NEEDS: Final[tuple[tuple[str, RequiredScopes | None], ...]] = (
    ("/v2/health/", None),
    ("/v2/feedback", frozenset({keys.Scope.FEEDBACK})),
    ("/v2/repository/models/", OPERATE_SCOPES),
)


def _is_small(headers: Headers) -> bool:
    """Whether the body has at most SMALL_BYTES, decompressed, as the headers say."""
    declared = headers.get(b"content-length", b"")
    return ENCODING not in headers and 0 < len(declared) <= 18 and int(declared) <= SMALL_BYTES


class Access:
    """Access control of the data plane. `keyring` None: no API keys are needed; `rates` None: no rate limits.
    `clock_ns`: monotonic. `count`: has a request counted in the fleet's store, see FleetRateLimiter.counted.
    """

    def __init__(
        self,
        keyring: Keyring | None = None,
        rates: RateLimiter | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        count: Count | None = None,
    ) -> None:
        self._keyring = keyring
        self._limiter = rates
        self._clock_ns = clock_ns
        self._count = count

    @property
    def open(self) -> bool:
        """Whether predictions are not checked at all."""
        return self._keyring is None and self._limiter is None

    def predict(self, scope: Mapping[str, Any], headers: Headers) -> Identity | None:
        """The identity behind a prediction, None without keys. Call it before reading the body. Raises RequestError,
        MustCount.
        """
        if self._keyring is None:
            return None
        identity = self._identity(self._keyring, scope, headers, PREDICT_SCOPES)
        if self._limiter is not None and not identity.delegates:
            self._limiter.admit(identity.customer, self._clock_ns())
        return identity

    async def predict_first(self, scope: Mapping[str, Any], headers: Headers) -> tuple[Identity | None, bool]:
        """As `predict`; and whether the request is still to be counted in the fleet's store, by `admit`: once its body
        says how long that may take. One whose body is not known to be small is counted now, lest a customer who sends
        more than is admitted takes this gateway's memory and time with bodies that are refused.
        """
        try:
            return self.predict(scope, headers), False
        except MustCount:
            if not _is_small(headers):
                return (await self.counted(lambda: self.predict(scope, headers)))[0], False
            assert self._keyring is not None
            return self._identity(self._keyring, scope, headers, PREDICT_SCOPES), True

    async def counted(
        self, act: Callable[[], T], waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> tuple[T, float]:
        """What `act` returns, which calls `admit`, once its request has been counted if it must be; and for how long
        that was waited for, in s, in the context `waiting()`.
        """
        if self._count is not None and isinstance(self._limiter, FleetRateLimiter):
            return await self._limiter.counted(act, self._count, waiting)
        return act(), 0.0

    def admit(self, identity: Identity | None, attributes: Attributes, *, uncounted: bool = False) -> Attributes:
        """The attributes of a prediction, once it may run; raises RequestError, MustCount.

        With keys, the customer is the key's, and the request may not name another, unless the key has the scope
        delegate. Without keys, the request counts towards the rate limit of the customer that it names. `uncounted`: as
        `predict_first` has said.
        """
        if identity is not None and identity.delegates:
            return self._admit_delegated(identity, attributes)
        if identity is not None:
            check_customer(identity, attributes.parameters.get("customer"))
            if uncounted and self._limiter is not None:
                self._limiter.admit(identity.customer, self._clock_ns())
            return Attributes(identity.customer, attributes.modality, attributes.headers, attributes.parameters)
        if self._limiter is not None:
            self._limiter.admit(attributes.customer, self._clock_ns())
        return attributes

    def _admit_delegated(self, identity: Identity, attributes: Attributes) -> Attributes:
        """The attributes with the customer for whom the key acts. That customer's rate limit applies first, so that a
        request that it refuses does not count for the key's own customer, whose limit applies then, if the settings
        name it: the limit by default is one customer's, not that of all whom a back end serves.
        """
        given = attributes.parameters.get("customer")
        if given and given != attributes.customer:
            raise InvalidRequest(
                f"the header x-customer-id names {short(attributes.customer)}, and parameters.customer {short(given)}:"
                " name one customer"
            )
        customer = customer_of(identity, attributes.customer)
        if self._limiter is not None:
            now_ns = self._clock_ns()
            self._limiter.admit(customer, now_ns)
            if customer != identity.customer and self._limiter.names(identity.customer):
                try:
                    self._limiter.admit(identity.customer, now_ns)
                except MustCount:  # then both are admitted again
                    self._limiter.withdraw(customer, now_ns)
                    raise
        return Attributes(customer, attributes.modality, attributes.headers, attributes.parameters)

    def other(self, scope: Scope, headers: Headers) -> Identity | None:
        """The identity behind any other request, None without keys; raises RequestError."""
        need = required_scopes(scope["path"])
        if need is None:
            return None
        if self._keyring is not None:
            return self._identity(self._keyring, scope, headers, need)
        if need is OPERATE_SCOPES:
            refuse_remote(scope.get("client"))
        if scope["method"] not in ("GET", "HEAD"):
            refuse = refuse_browsers if need is OPERATE_SCOPES else refuse_cross_site
            refuse(headers)
        return None

    def _identity(self, keyring: Keyring, scope: Mapping[str, Any], headers: Headers, need: RequiredScopes) -> Identity:
        try:
            return authenticate(keyring, headers, scope["query_string"], need)
        except RequestError as error:
            if b"expect" in headers:  # the client may never send the body: the next request could be taken for it
                error.headers = {**error.headers, **CLOSE_CONNECTION}
            raise


class AuthMiddleware:
    """Passes to `application` the requests that `access` allows. Their bodies must arrive within `body_within_s`.

    Puts `identity` into the ASGI scope: an Identity or None.
    """

    def __init__(self, application: ASGIApp, access: Access, body_within_s: float) -> None:
        self._application = application
        self._access = access
        self._body_within_s = body_within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["identity"] = self._access.other(scope, dict(scope["headers"]))
        except RequestError as error:
            await send_error(send, error)
            return
        await self._application(scope, with_body_timeout(receive, self._body_within_s), send)


def required_scopes(path: str) -> RequiredScopes | None:
    """The scopes of which a key needs one, for a path other than predictions; None: no key is needed."""
    return next((need for begin, need in _NEEDS if path.startswith(begin)), ANY_SCOPE)
