"""POST /api/explain: which version would answer a hypothetical request, under the weights and stops in force."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.bodies import ExplainBody, parse_body
from gateway.control.api.documents import ExplanationDocument, explanation_document
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.openapi import Operation
from gateway.control.control_plane import ControlPlane
from gateway.control.status import release_status
from gateway.routing.attributes import Attributes
from gateway.routing.explanation import explain
from gateway.web.responses import JsonResponse


class Explain:
    """POST /api/explain. It is a POST because the query is a JSON document; it changes nothing."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def endpoints(self) -> list[Endpoint]:
        operation = Operation(
            "POST",
            "/api/explain",
            "explain",
            "Which version would answer such a request, and why.",
            answer=ExplanationDocument,
            errors=(400, 403, 404, 413, 415),
            body=ExplainBody,
            body_required=True,
        )
        return [Endpoint(operation, self.explain)]

    async def explain(self, request: Request) -> Response:
        body = await parse_body(request, ExplainBody)
        overview = release_status(self._control, body.model)
        modality = body.modality or await asyncio.to_thread(self._control.routing_file.modality, body.model)
        attributes = Attributes(
            body.customer,
            modality,
            {name.lower(): value for name, value in body.headers.items()},
            body.parameters,
        )
        release = await asyncio.to_thread(self._control.release, body.model)
        return JsonResponse(explanation_document(body.model, explain(release, attributes, body.key, overview.stopped)))
