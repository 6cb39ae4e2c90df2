"""The data plane as one ASGI application: inference first, the rest through Starlette."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.errors import RequestError
from gateway.web.body import ClientGone
from gateway.web.responses import JsonResponse
from gateway.worker.http import openapi_document
from gateway.worker.http.access import Access, AuthMiddleware
from gateway.worker.http.feedback import FeedbackEndpoint
from gateway.worker.http.infer import INTERNAL_ERROR, InferEndpoint, target_of
from gateway.worker.http.metadata import Metadata
from gateway.worker.http.model_repository import LoadOperations, RepositoryApi
from gateway.worker.http.not_found import not_found_reason, shown
from gateway.worker.pipeline import Pipeline


def data_app(
    pipeline: Pipeline, max_body: int, operations: LoadOperations | None = None, access: Access | None = None
) -> ASGIApp:
    """The application that port 8000 serves. `max_body` in bytes; `operations` None: load and unload here only."""
    access = access or Access()
    repository = RepositoryApi(pipeline.catalog, operations or pipeline.catalog, max_body)
    application = Starlette(
        routes=[
            *Metadata(pipeline).routes(),
            *FeedbackEndpoint(pipeline, max_body).routes(),
            *repository.routes(),
            *openapi_document.routes(),
        ],
        exception_handlers={RequestError: _refused, HTTPException: _not_routed, ClientGone: _gone, Exception: _broken},
    )
    return InferEndpoint(pipeline, AuthMiddleware(application, access, pipeline.timeout_s), max_body, access)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JsonResponse({"error": str(error)}, error.status, dict(error.headers))


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path: str = request.scope["path"]
    allowed = "POST" if target_of(path) is not None else (error.headers or {}).get("Allow")
    if allowed:
        allowed = ", ".join(sorted(allowed.split(", ")))
        message = f"{shown(path)} is served for {allowed}, not for {request.method}"
        return JsonResponse({"error": message}, 405, {"allow": allowed})
    return JsonResponse({"error": not_found_reason(path)}, error.status_code)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _broken(request: Request, error: Exception) -> Response:
    return JsonResponse({"error": INTERNAL_ERROR}, 500)
