"""The data plane as one ASGI application: inference first, the rest through Starlette."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.errors import RequestError
from gateway.pipeline import Gateway
from gateway.web import described
from gateway.web.access import Access, Guarded
from gateway.web.body import ClientGone
from gateway.web.feedback import Feedback
from gateway.web.infer import BROKEN, InferEndpoint
from gateway.web.metadata import JsonResponse, Metadata
from gateway.web.repository import Operations, RepositoryApi


def data_plane(
    gateway: Gateway, max_body: int, operations: Operations | None = None, access: Access | None = None
) -> ASGIApp:
    """The application that port 8000 serves. `max_body` in bytes."""
    access = access or Access()
    repository = RepositoryApi(gateway.deployment, operations or gateway.deployment, max_body)
    application = Starlette(
        routes=[
            *Metadata(gateway).routes(),
            *Feedback(gateway, max_body).routes(),
            *repository.routes(),
            *described.routes(),
        ],
        exception_handlers={RequestError: _refused, HTTPException: _not_routed, ClientGone: _gone, Exception: _broken},
    )
    return InferEndpoint(gateway, Guarded(application, access, gateway.timeout_s), max_body, access)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JsonResponse({"error": str(error)}, error.status, dict(error.headers))


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow")
    if request.url.path.endswith("/infer"):
        allowed = "POST"
    if allowed:
        message = f"{request.url.path} is served for {allowed}, not for {request.method}"
        return JsonResponse({"error": message}, 405, {"allow": allowed})
    message = f"{request.url.path} is not served; GET /v2 and POST /v2/repository/index tell what is"
    return JsonResponse({"error": message}, error.status_code)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _broken(request: Request, error: Exception) -> Response:
    return JsonResponse({"error": BROKEN}, 500)
