"""The control plane on port 8002: releases, their stops, the configuration, the decisions, and the metrics."""

import os
from dataclasses import asdict
from typing import Any, Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.control import Control
from gateway.errors import Forbidden, InvalidRequest, NotFound, NotReady, RequestError
from gateway.metrics.prometheus import GatewayCollector
from gateway.release.overview import Counted, Overview
from gateway.web.body import read_body
from gateway.web.metadata import JsonResponse

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
MAX_BODY: Final = 65536
REASON_LENGTH: Final = 1000


def control_plane(control: Control) -> ASGIApp:
    """The application that port 8002 serves: on loopback only, and for this machine's own names only."""
    return Starlette(
        routes=ControlApi(control).routes(),
        exception_handlers={RequestError: _refused, HTTPException: _not_routed, Exception: _broken},
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK), www_redirect=False)],
    )


class ControlApi:
    """Every change names who made it (`by`) and why (`reason`)."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(GatewayCollector(control.observe))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def routes(self) -> list[Route]:
        release = "/api/releases/{model}"
        return [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/api/releases", self.releases),
            Route(release, self.release),
            Route(f"{release}/stop", self.stop, methods=["POST"]),
            Route(f"{release}/resume", self.resume, methods=["POST"]),
            Route("/api/config", self.config),
            Route("/api/decisions", self.decisions),
        ]

    async def health(self, request: Request) -> Response:
        if not self._control.fleet.ready.is_set():
            raise NotReady("the workers are starting")
        return JsonResponse({"healthy": True, "pid": os.getpid()})

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def releases(self, request: Request) -> Response:
        return JsonResponse([_release(overview) for overview in self._control.overview()])

    async def release(self, request: Request) -> Response:
        name = request.path_params["model"]
        for overview in self._control.overview():
            if overview.model == name:
                return JsonResponse(_release(overview))
        raise NotFound(f"there is no model '{name}'; GET /api/releases lists them")

    async def stop(self, request: Request) -> Response:
        reason, by = await self._why(request)
        return JsonResponse(asdict(await self._control.stop(request.path_params["model"], by, reason)))

    async def resume(self, request: Request) -> Response:
        reason, by = await self._why(request)
        return JsonResponse(asdict(await self._control.resume(request.path_params["model"], by, reason)))

    async def config(self, request: Request) -> Response:
        control = self._control
        status = control.configuration.status
        return JsonResponse(
            {
                "revision": status.revision,
                "generation": control.fleet.plan.generation,
                "acknowledged": control.acknowledged(),
                "workers": control.fleet.size,
                "loaded_time_s": status.loaded_s,
                "last_error": status.error or None,
                "left_out": [
                    {"model": name, "version": version, "reason": why}
                    for (name, version), why in sorted(control.left_out().items())
                ],
            }
        )

    async def decisions(self, request: Request) -> Response:
        return JsonResponse([asdict(decision) for decision in reversed(self._control.stops.decisions)])

    async def _why(self, request: Request) -> tuple[str, str]:
        """The reason and who gives it. A page of another site may make a browser post here: it is refused."""
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            raise Forbidden(f"a page of {origin} may not change anything here")
        body = await read_body(request.receive, dict(request.scope["headers"]), MAX_BODY)
        try:
            document: Any = orjson.loads(body) if body.strip() else {}
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"the body is not valid JSON: {error}") from None
        reason = document.get("reason", "") if isinstance(document, dict) else None
        if not isinstance(reason, str) or len(reason) > REASON_LENGTH:
            raise InvalidRequest(f'the body must be {{"reason": "…"}}, of {REASON_LENGTH} characters at most, or empty')
        return reason or "no reason given", "api"


def _release(overview: Overview) -> dict[str, Any]:
    return {
        "model": overview.model,
        "stable": overview.stable,
        "candidate": overview.candidate,
        "stopped": overview.stopped,
        "stop": asdict(overview.stop) if overview.stop else None,
        "epoch": overview.epoch,
        "routes": [
            {
                "route": route,
                "weight_percent": ppm / 10_000,
                "in_force_percent": 0 if overview.stopped else ppm / 10_000,
            }
            for route, ppm in overview.weights_ppm.items()
        ],
        "versions": [_counted(counted) for counted in overview.versions],
    }


def _counted(counted: Counted) -> dict[str, Any]:
    outcomes = counted.totals.outcomes(counted.variant)
    latency = counted.totals.latency(counted.variant)
    count = sum(latency.counts)
    return {
        "version": counted.version,
        "variant": counted.variant,
        "outcomes": {str(outcome): count for outcome, count in outcomes.items()},
        "rescues": {reason: n for reason, n in counted.totals.rescues.items() if n},
        "latency_mean_ms": latency.sum_ns / count / 1e6 if count else None,
    }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JsonResponse({"error": str(error)}, error.status, dict(error.headers))


async def _broken(request: Request, error: Exception) -> Response:
    return JsonResponse({"error": "the gateway failed on this request; its log says how"}, 500)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path} is not served here; GET /api/releases is"
    return JsonResponse({"error": message}, error.status_code, error.headers)
