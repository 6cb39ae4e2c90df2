"""The control plane's ASGI application on port 8002. One table of endpoints yields both the routes and the OpenAPI
document.
"""

import asyncio
from functools import cache, partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.auth.keyring import Keyring
from gateway.control.api.access import ControlAuthMiddleware, refused
from gateway.control.api.commands import Changes
from gateway.control.api.console import Page
from gateway.control.api.event_stream import Events
from gateway.control.api.explain import Explain
from gateway.control.api.openapi import Operation, document
from gateway.control.api.page_process import Printer
from gateway.control.api.queries import Readings
from gateway.control.api.reader_queue import OneByOne, Turns
from gateway.control.api.release_pages import metrics, released
from gateway.control.api.shared_results import Fresh
from gateway.control.control_plane import ControlPlane
from gateway.web.exception_handlers import exception_handlers
from gateway.web.responses import JsonResponse

OPENAPI: Final = Operation("GET", "/openapi.json", "openapi", "This document.", answer=dict[str, Any])
DESCRIPTION: Final = "Releases, their stops and weights, the configuration, the decisions and the metrics."


def control_plane(control: ControlPlane, ending: asyncio.Event, keyring: Keyring | None) -> ASGIApp:
    """Build the application.

    `ending`: set when the gateway begins to shut down; `keyring`: None if no keys are required, since only this machine
    can reach it.
    """
    printer = Printer(control.repository.path)
    documents, text = Fresh(partial(released, control, printer)), Fresh(partial(metrics, control, printer))
    readings, events = Readings(control, documents, text), Events(control, documents, ending, keyring)
    parts = (readings, Changes(control), Explain(control), events, Page())
    endpoints = [endpoint for part in parts for endpoint in part.endpoints()]

    @cache
    def described() -> dict[str, Any]:
        operations = [*(endpoint.operation for endpoint in endpoints), OPENAPI]
        return document("canary-gateway: control plane", DESCRIPTION, operations, "control", refused)

    async def openapi(request: Request) -> Response:
        return JsonResponse(described())

    return Starlette(
        routes=[*(endpoint.route() for endpoint in endpoints), Route(OPENAPI.path, openapi)],
        exception_handlers=exception_handlers(_not_routed),
        middleware=[Middleware(OneByOne, Turns(), control.pressing), Middleware(ControlAuthMiddleware, keyring)],
    )


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path} is not served here; GET /openapi.json lists what is"
    return JsonResponse({"error": message}, error.status_code, error.headers)
