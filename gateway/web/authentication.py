"""Authenticates requests by API key, and refuses those of foreign web pages or of other machines."""

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from gateway.auth.keyring import Identity, Keyring
from gateway.errors import Forbidden, InvalidRequest, Unauthenticated
from gateway.settings.keys import KEY_PREFIX, Scope, customer_name
from gateway.web.body import Headers
from gateway.web.headers import header_text

RequiredScopes = frozenset[Scope]
LOCAL_CALLER: Final = "local"  # who changes something, without keys: someone on this machine
ANY_SCOPE: Final[RequiredScopes] = frozenset(Scope)  # any valid key will do
_HOW: Final = "send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"
_IN_QUERY: Final = re.compile(
    rb"(^|&)(x-api-key|api[-_]?key|key|access[-_]?token|token|authorization)=|" + KEY_PREFIX.encode(), re.IGNORECASE
)


def authenticate(keyring: Keyring, headers: Headers, query: bytes, need: RequiredScopes) -> Identity:
    """The identity of the request's key, which must have one of the scopes `need`.

    Raises InvalidRequest for a key in the query string, which logs and histories keep; Unauthenticated; and Forbidden
    for a key without such a scope, or a request that names another customer.
    """
    if query and _IN_QUERY.search(query):
        raise InvalidRequest(f"an API key must not be in the query string, because logs would contain it; {_HOW}")
    key = _presented(headers)
    if key is None:
        raise Unauthenticated(f"this needs an API key; {_HOW}")
    identity = keyring.identity(key)
    if identity is None:
        raise Unauthenticated(
            "the API key is unknown, revoked or expired; ask the operator of this gateway for another one"
        )
    if need.isdisjoint(identity.scopes):
        wanted = " or ".join(sorted(need))
        raise Forbidden(f"this needs a key with the scope {wanted}; this one has {', '.join(sorted(identity.scopes))}")
    claimed = headers.get(b"x-customer-id")
    if claimed is not None:
        check_customer(identity, header_text(claimed))
    return identity


def check_customer(identity: Identity, claimed: object) -> None:
    """Raises Forbidden if a request names another customer than its key does, unless the key may act for others."""
    if claimed and claimed != identity.customer and not identity.delegates:
        raise Forbidden(
            "the request names another customer than its API key; omit the name, or ask the operator for a key with"
            " the scope delegate"
        )


def customer_of(identity: Identity, claimed: str | None) -> str:
    """The customer for whom the key acts: the one that the request names, if the key may, else its own. Raises
    InvalidRequest, Forbidden.
    """
    if not claimed or claimed == identity.customer:
        return identity.customer
    check_customer(identity, claimed)
    try:
        return customer_name(claimed)
    except ValueError as error:
        raise InvalidRequest(f"customer: {error}") from None


def refuse_cross_site(headers: Headers) -> None:
    """Raises Forbidden for a request that a browser sends on behalf of a page of another site (CSRF)."""
    origin = headers.get(b"origin")
    site = headers.get(b"sec-fetch-site", b"none")
    if (origin is not None and origin.partition(b"://")[2] != headers.get(b"host")) or site not in (
        b"none",
        b"same-origin",
    ):
        raise Forbidden("web pages of other sites are not allowed to change anything here")


def refuse_browsers(headers: Headers) -> None:
    """Raises Forbidden for a request of any web page: after DNS rebinding, a foreign page looks like one of ours."""
    if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") != b"none":
        raise Forbidden("web pages are not allowed to do this without an API key")


def refuse_remote(client: tuple[str, int] | None) -> None:
    """Raises Forbidden for a request from another machine: without keys, only this one may operate the gateway."""
    address = ip_address(client[0]) if client else None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address is None or not address.is_loopback:
        raise Forbidden("this is allowed only from the gateway's own machine, because auth.keys is not set")


def identity_in(scope: Mapping[str, Any]) -> Identity | None:
    """The identity that an AuthMiddleware has put into the scope, None without keys."""
    identity: Identity | None = scope.get("identity")
    return identity


def _presented(headers: Headers) -> bytes | None:
    authorization = headers.get(b"authorization")
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip()
    key = headers.get(b"x-api-key")
    return None if key is None else key.strip()
