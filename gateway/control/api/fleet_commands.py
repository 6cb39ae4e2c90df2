"""The endpoint that removes a host that has ended from the fleet. Recorded as a decision."""

from typing import Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.bodies import NO_REASON, ReasonBody, caller, origin_of, parse_body
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.fleet_documents import RemovalDocument
from gateway.control.api.openapi import Operation
from gateway.control.control_plane import ControlPlane
from gateway.errors import Conflict
from gateway.web.responses import JsonResponse

ERROR_STATUSES: Final = (400, 403, 404, 409, 413, 415)
LONGEST_NAME: Final = 1000


class RemoveBody(ReasonBody):
    """The host to remove, by the name or the incarnation that GET /api/fleet lists."""

    host: str = Field(min_length=1, max_length=LONGEST_NAME)


class FleetCommands:
    """Raises NotFound, Conflict and the errors of `parse_body`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                Operation(
                    "POST",
                    "/api/fleet/remove",
                    "remove",
                    "Remove a host that was killed: its shares of the rate limits, and its membership.",
                    answer=RemovalDocument,
                    errors=ERROR_STATUSES,
                    body=RemoveBody,
                    body_required=True,
                ),
                self.remove,
            )
        ]

    async def remove(self, request: Request) -> Response:
        body = await parse_body(request, RemoveBody)
        control = self._control
        if control.host_removal is None:
            raise Conflict("this gateway is not in a fleet; see the setting fleet")
        removed = await control.host_removal.remove(body.host)
        control.decision_log.record(
            "", 0, "remove", caller(request), body.reason or NO_REASON, origin_of(request) | removed.evidence()
        )
        await control.decision_log.wait_durable()
        if removed.problem:
            raise Conflict(removed.problem)
        document: RemovalDocument = {
            "host": removed.name,
            "shares": list(removed.shares),
            "memberships": list(removed.memberships),
            "on_disk": control.decision_log.on_disk,
        }
        return JsonResponse(document)
