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
from gateway.control.api.access import ControlAuthMiddleware, MetricsPortMiddleware, possible_errors
from gateway.control.api.commands import ReleaseCommands
from gateway.control.api.console import ConsoleFiles
from gateway.control.api.datasets import DatasetEndpoints
from gateway.control.api.event_stream import EventStream
from gateway.control.api.explain import Explain
from gateway.control.api.fleet_commands import FleetCommands
from gateway.control.api.openapi import Operation, openapi_document
from gateway.control.api.page_renderer import PageRenderer
from gateway.control.api.proposals import ProposeEndpoint
from gateway.control.api.queries import ReadEndpoints
from gateway.control.api.reader_queue import ReaderQueue, SlotQueue
from gateway.control.api.registry_hint import RegistryHint
from gateway.control.api.release_pages import metrics_text, release_pages
from gateway.control.api.shared_results import SharedResult
from gateway.control.api.traces import TraceEndpoint
from gateway.control.api.traffic import TrafficEndpoints
from gateway.control.control_plane import ControlPlane
from gateway.control.propose import Proposals
from gateway.control.registry.webhook import Webhook
from gateway.web.exception_handlers import exception_handlers
from gateway.web.responses import JsonResponse

OPENAPI: Final = Operation("GET", "/openapi.json", "openapi", "This document.", answer=dict[str, Any])
DESCRIPTION: Final = "Releases, their stops and weights, the configuration, the decisions and the metrics."


def control_app(
    control: ControlPlane,
    proposals: Proposals,
    ending: asyncio.Event,
    keyring: Keyring | None,
    *,
    metrics_port: int | None = None,
    webhook: Webhook | None = None,
) -> ASGIApp:
    """Build the application.

    `ending`: set when the gateway begins to shut down; `keyring`: None if no keys are required, since only this machine
    can reach it; `metrics_port`: on this port anyone may ask for the metrics, and for nothing else; `webhook`: takes
    the deliveries of the model registry's.
    """
    printer = PageRenderer(control.repository.path)
    documents, text = (
        SharedResult(partial(release_pages, control, printer)),
        SharedResult(partial(metrics_text, control, printer)),
    )
    readings, events = ReadEndpoints(control, documents, text), EventStream(control, documents, ending, keyring)
    commands = ReleaseCommands(control), FleetCommands(control)
    propose = ProposeEndpoint(control, proposals)
    recorded = TrafficEndpoints(control), DatasetEndpoints(control), TraceEndpoint(control)
    parts = (readings, *recorded, *commands, propose, RegistryHint(webhook), Explain(control), events, ConsoleFiles())
    endpoints = [endpoint for part in parts for endpoint in part.endpoints()]

    @cache
    def described() -> dict[str, Any]:
        operations = [*(endpoint.operation for endpoint in endpoints), OPENAPI]
        return openapi_document("canary-gateway: control plane", DESCRIPTION, operations, "control", possible_errors)

    async def openapi(request: Request) -> Response:
        return JsonResponse(described())

    return Starlette(
        routes=[*(endpoint.route() for endpoint in endpoints), Route(OPENAPI.path, openapi)],
        exception_handlers=exception_handlers(_not_routed),
        middleware=[
            Middleware(MetricsPortMiddleware, metrics_port),
            Middleware(ReaderQueue, SlotQueue(), control.command_priority),
            Middleware(ControlAuthMiddleware, keyring, metrics_port),
        ],
    )


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path} is not served here; GET /openapi.json lists what is"
    return JsonResponse({"error": message}, error.status_code, error.headers)
