"""The read-only endpoints: health, metrics, releases, configuration, the fleet, decisions."""

import asyncio
import os
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.decision_list import DecisionListCache
from gateway.control.api.documents import ConfigDocument, DecisionDocument, HealthDocument, ReleaseDocument
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.fleet_documents import FleetAnswer
from gateway.control.api.fleet_rendering import fleet_document
from gateway.control.api.openapi import Operation, Parameter
from gateway.control.api.provenance_rendering import ProvenanceCache
from gateway.control.api.release_pages import ReleasePages, in_page_thread
from gateway.control.api.rendering import config_document, release_document
from gateway.control.api.shared_results import SharedResult
from gateway.control.class_names import ClassLabels
from gateway.control.control_plane import ControlPlane
from gateway.control.release.decisions import MAX_IN_MEMORY
from gateway.control.status import release_status
from gateway.errors import InvalidRequest, NotReady
from gateway.system.scheduling import set_realtime_helper
from gateway.web.responses import JsonResponse

LIMIT: Final = Parameter(
    "limit", "The most entries to return.", {"type": "integer", "minimum": 1, "maximum": MAX_IN_MEMORY}
)
MODEL: Final = Parameter("model", "Only entries of this model.")


class ReadEndpoints:
    """The read-only endpoints. They raise NotFound, InvalidRequest and NotReady."""

    def __init__(
        self, control: ControlPlane, released: SharedResult[ReleasePages], metrics: SharedResult[bytes]
    ) -> None:
        self._control = control
        self._release_pages = released
        self._metrics = metrics
        self._decision_list = DecisionListCache()
        self._listing = asyncio.Lock()
        self._labels = ClassLabels(control.repository)
        self._provenance = ProvenanceCache(control.repository, set_priority=set_realtime_helper)

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                Operation("GET", "/health", "health", "Whether workers serve.", answer=HealthDocument, errors=(503,)),
                self.health,
            ),
            Endpoint(
                Operation("GET", "/metrics", "metrics", "Prometheus metrics.", media=CONTENT_TYPE_LATEST), self.metrics
            ),
            Endpoint(
                Operation(
                    "GET", "/api/releases", "releases", "Every release as it is now.", answer=list[ReleaseDocument]
                ),
                self.releases,
            ),
            Endpoint(
                Operation(
                    "GET", "/api/releases/{model}", "release", "One release.", answer=ReleaseDocument, errors=(404,)
                ),
                self.release,
            ),
            Endpoint(
                Operation("GET", "/api/config", "config", "The configuration in force.", answer=ConfigDocument),
                self.config,
            ),
            Endpoint(
                Operation(
                    "GET", "/api/fleet", "fleet", "The fleet's hosts, and this host's lease.", answer=FleetAnswer
                ),
                self.fleet,
            ),
            Endpoint(
                Operation(
                    "GET",
                    "/api/decisions",
                    "decisions",
                    "What was changed or decided, newest first.",
                    answer=list[DecisionDocument],
                    errors=(400,),
                    parameters=(MODEL, LIMIT),
                ),
                self.decisions,
            ),
        ]

    async def health(self, request: Request) -> Response:
        pool = self._control.pool
        serving = len(pool.ready_handles())
        if not pool.ready.is_set():
            raise NotReady(f"the workers are starting: {serving} of {pool.size} serve")
        if not serving:
            raise NotReady(f"none of {pool.size} workers serves; they are restarted, and the log says why they ended")
        return JsonResponse({"healthy": True, "pid": os.getpid(), "workers": pool.size, "serving": serving})

    async def metrics(self, request: Request) -> Response:
        return Response(await self._metrics.get(), media_type=CONTENT_TYPE_LATEST)

    async def releases(self, request: Request) -> Response:
        return Response((await self._release_pages.get()).text, media_type=JsonResponse.media_type)

    async def release(self, request: Request) -> Response:
        self._labels.adopt(self._control.class_names.known)
        status = release_status(self._control, request.path_params["model"])
        document = await in_page_thread(release_document, status, self._labels.of, self._provenance.of)
        return JsonResponse(document)

    async def config(self, request: Request) -> Response:
        return JsonResponse(config_document(self._control))

    async def fleet(self, request: Request) -> Response:
        answer: FleetAnswer = {"fleet": fleet_document(self._control)}
        return JsonResponse(answer)

    async def decisions(self, request: Request) -> Response:
        model, limit = request.query_params.get("model"), _limit(request.query_params.get("limit"))
        async with self._listing:
            decisions, cache = self._control.decision_log.decisions, self._decision_list
            if cache.is_current(decisions):
                text = cache.get(decisions, model, limit)
            else:
                text = await in_page_thread(cache.get, decisions, model, limit)
        return Response(text, media_type=JsonResponse.media_type)


def _limit(text: str | None) -> int:
    if text is None:
        return MAX_IN_MEMORY
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_IN_MEMORY):
        raise InvalidRequest(f"limit must be a whole number from 1 to {MAX_IN_MEMORY}; it is {text!r:.40}")
    return int(text)
