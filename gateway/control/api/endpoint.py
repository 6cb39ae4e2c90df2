"""One row of the control plane's endpoint table: its OpenAPI operation and its handler."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.control.api.openapi import Operation


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An operation and its handler."""

    operation: Operation
    handler: Callable[[Request], Awaitable[Response]]

    def route(self) -> Route:
        """The Starlette route of this endpoint."""
        return Route(self.operation.path, self.handler, methods=[self.operation.method])
