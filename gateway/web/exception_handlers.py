"""What both planes answer when a handler raises: as {"error": "…"}, with the error's own status."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import RequestError
from gateway.web.body import ClientGone
from gateway.web.responses import JsonResponse

INTERNAL_ERROR: Final = "internal error of the gateway; its log has the details"
Handler = Callable[[Request, Exception], Awaitable[Response]]


def exception_handlers(not_routed: Handler) -> Mapping[Any, Handler]:
    """For Starlette. `not_routed` answers what has no route, or not for its method: an HTTPException."""
    return {RequestError: _refused, HTTPException: not_routed, ClientGone: _gone, Exception: _broken}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JsonResponse({"error": str(error)}, error.status, dict(error.headers))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _broken(request: Request, error: Exception) -> Response:
    return JsonResponse({"error": INTERNAL_ERROR}, 500)
