"""The data plane as one ASGI application: inference first, the rest through Starlette."""

from importlib.resources import files
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.web.exception_handlers import exception_handlers
from gateway.web.responses import JsonResponse
from gateway.worker.http.access import Access, AuthMiddleware
from gateway.worker.http.feedback import FeedbackEndpoint
from gateway.worker.http.infer import InferEndpoint, target_of
from gateway.worker.http.metadata import Metadata
from gateway.worker.http.model_repository import LoadOperations, RepositoryApi
from gateway.worker.http.not_found import not_found_reason, shown
from gateway.worker.pipeline import Pipeline

OPENAPI: Final = (files("gateway.worker.http") / "openapi.json").read_bytes()


def data_app(pipeline: Pipeline, max_body: int, operations: LoadOperations, access: Access) -> ASGIApp:
    """The application that port 8000 serves. `max_body` in bytes."""
    application = Starlette(
        routes=routes(pipeline, max_body, operations), exception_handlers=exception_handlers(_not_routed)
    )
    return InferEndpoint(pipeline, AuthMiddleware(application, access, pipeline.timeout_s), max_body, access)


def routes(pipeline: Pipeline, max_body: int, operations: LoadOperations) -> list[Route]:
    """All that is served but predictions. openapi.json describes each of them, which a test holds it to."""
    return [
        *Metadata(pipeline).routes(),
        *FeedbackEndpoint(pipeline, max_body).routes(),
        *RepositoryApi(pipeline.catalog, operations, max_body).routes(),
        Route("/openapi.json", _openapi),
    ]


async def _openapi(request: Request) -> Response:
    return Response(OPENAPI, media_type=JsonResponse.media_type)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path: str = request.scope["path"]
    allowed = "POST" if target_of(path) is not None else (error.headers or {}).get("Allow")
    if allowed:
        allowed = ", ".join(sorted(allowed.split(", ")))
        message = f"{shown(path)} is served for {allowed}, not for {request.method}"
        return JsonResponse({"error": message}, 405, {"allow": allowed})
    return JsonResponse({"error": not_found_reason(path)}, error.status_code)
