"""GET /api/traffic and /api/releases/MODEL/traffic: requests, failures and latencies over an hour, a day and the whole
release, and the most frequent routes and customers.
"""

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.endpoint import Endpoint
from gateway.control.api.openapi import Operation
from gateway.control.api.release_pages import in_page_thread
from gateway.control.api.traffic_documents import TrafficDocument, traffic_document
from gateway.control.control_plane import ControlPlane
from gateway.control.status import collect_traffic
from gateway.control.traffic.history import ReleaseTraffic
from gateway.web.responses import JsonResponse


class TrafficEndpoints:
    """They raise NotFound for a model that is not served."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                Operation(
                    "GET",
                    "/api/traffic",
                    "traffic_of_all",
                    "The traffic of every release in the last hour, the last day, and since it began.",
                    answer=list[TrafficDocument],
                ),
                self.of_all,
            ),
            Endpoint(
                Operation(
                    "GET",
                    "/api/releases/{model}/traffic",
                    "traffic",
                    "The traffic of one release in the last hour, the last day, and since it began.",
                    answer=TrafficDocument,
                    errors=(404,),
                ),
                self.of_one,
            ),
        ]

    async def of_all(self, request: Request) -> Response:
        found = await collect_traffic(self._control)
        return JsonResponse(await in_page_thread(lambda: [self._document(one) for one in found]))

    async def of_one(self, request: Request) -> Response:
        model = request.path_params["model"]
        traffic = self._control.traffic.traffic(model, self._control.settings_of(model))
        return JsonResponse(self._document(traffic))

    def _document(self, traffic: ReleaseTraffic) -> TrafficDocument:
        return traffic_document(traffic, self._control.records.top_counts.of(traffic.model))
