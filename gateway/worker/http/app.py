"""The data plane as one ASGI application: inference first, the rest through Starlette."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.web.exception_handlers import exception_handlers
from gateway.web.responses import JsonResponse
from gateway.worker.http import openapi_document
from gateway.worker.http.access import Access, AuthMiddleware
from gateway.worker.http.feedback import FeedbackEndpoint
from gateway.worker.http.infer import InferEndpoint, target_of
from gateway.worker.http.metadata import Metadata
from gateway.worker.http.model_repository import Operations, RepositoryApi
from gateway.worker.http.not_found import shown, unserved
from gateway.worker.pipeline import Pipeline


def data_plane(gateway: Pipeline, max_body: int, operations: Operations, access: Access) -> ASGIApp:
    """The application that port 8000 serves. `max_body` in bytes."""
    repository = RepositoryApi(gateway.catalog, operations, max_body)
    application = Starlette(
        routes=[
            *Metadata(gateway).routes(),
            *FeedbackEndpoint(gateway, max_body).routes(),
            *repository.routes(),
            *openapi_document.routes(),
        ],
        exception_handlers=exception_handlers(_not_routed),
    )
    return InferEndpoint(gateway, AuthMiddleware(application, access, gateway.timeout_s), max_body, access)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path: str = request.scope["path"]
    allowed = "POST" if target_of(path) is not None else (error.headers or {}).get("Allow")
    if allowed:
        allowed = ", ".join(sorted(allowed.split(", ")))
        message = f"{shown(path)} is served for {allowed}, not for {request.method}"
        return JsonResponse({"error": message}, 405, {"allow": allowed})
    return JsonResponse({"error": unserved(path)}, error.status_code)
