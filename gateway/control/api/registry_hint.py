"""POST /api/registry/hint: a webhook of MLflow says that an alias has moved. Signed by MLflow instead of an API key."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.access import SIGNED_PATH
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.openapi import Operation, Parameter
from gateway.control.registry.webhook import Webhook
from gateway.errors import NotFound
from gateway.web.body import receive_body

MAX_BODY_BYTES: Final = 65536
NOT_SET: Final = (
    "no webhook is taken here: set registry.mlflow.webhook_secret in gateway.yaml to {env: NAME}, with the secret that"
    " MLflow's webhook was made with in that variable"
)
_PARAMETERS: Final = (
    Parameter("X-MLflow-Signature", "`v1,` and the HMAC-SHA256 of id, timestamp and body in base64.", place="header"),
    Parameter("X-MLflow-Delivery-Id", "The delivery's id.", place="header"),
    Parameter("X-MLflow-Timestamp", "Seconds since 1970.", place="header"),
)


class RegistryHint:
    """The endpoint. `webhook`: None unless one is set."""

    def __init__(self, webhook: Webhook | None) -> None:
        self._webhook = webhook

    def endpoints(self) -> list[Endpoint]:
        operation = Operation(
            "POST",
            SIGNED_PATH,
            "registry_hint",
            "A delivery of MLflow's webhook, signed with its secret: the registry is polled now.",
            errors=(400, 401, 404, 408, 413),
            parameters=_PARAMETERS,
            body=dict[str, Any],
            body_required=True,
            media=None,
            status=202,
        )
        return [Endpoint(operation, self.receive)]

    async def receive(self, request: Request) -> Response:
        """Raises NotFound, Unauthenticated, InvalidRequest, BodyTooLarge."""
        if self._webhook is None:
            raise NotFound(NOT_SET)
        headers = dict(request.scope["headers"])
        self._webhook.receive(headers, await receive_body(request.receive, headers, MAX_BODY_BYTES))
        return Response(status_code=202)
