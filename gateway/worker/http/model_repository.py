"""The model repository extension: the index of versions, and loading and unloading a model."""

import asyncio
from dataclasses import asdict
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import GatewayError, InvalidRequest, RequestError
from gateway.protocol.json_text import NotJson, parse_json
from gateway.web.authentication import LOCAL_CALLER, identity_in
from gateway.web.body import read_body
from gateway.web.content_type import refusal_of
from gateway.web.responses import JsonResponse
from gateway.worker.models.catalog import ModelCatalog
from gateway.worker.models.index import VersionState

MAX_BODY_BYTES: Final = 262_144  # bytes: parsing holds up predictions


class LoadOperations(Protocol):
    """Loads and unloads models in all workers. Both raise GatewayError. `by`, `origin`: as in LoadRequest."""

    async def load(self, name: str, *, by: str, origin: str) -> None: ...

    async def unload(self, name: str, *, by: str, origin: str) -> None: ...


class RepositoryApi:
    """The endpoints below /v2/repository, all by POST. `max_body` in bytes."""

    def __init__(self, catalog: ModelCatalog, operations: LoadOperations, max_body: int) -> None:
        self._catalog = catalog
        self._operations = operations
        self._max_body = min(max_body, MAX_BODY_BYTES)

    def routes(self) -> list[Route]:
        model = "/v2/repository/models/{model}"
        return [
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route(f"{model}/load", self.load, methods=["POST"]),
            Route(f"{model}/unload", self.unload, methods=["POST"]),
        ]

    async def index(self, request: Request) -> Response:
        """List the versions in the repository with their states; with `ready`, only those that are served."""
        ready_only = (await self._body(request)).get("ready") is True
        entries = [
            {"name": entry.name, "version": str(entry.version), "state": entry.state, "reason": entry.reason}
            for entry in self._catalog.index()
            if entry.state is VersionState.READY or not ready_only
        ]
        if not ready_only:
            for over in await asyncio.to_thread(self._catalog.unserved_entries):
                entries.append({**asdict(over), "state": VersionState.UNAVAILABLE})
        return JsonResponse(sorted(entries, key=lambda entry: entry["name"]))

    async def load(self, request: Request) -> Response:
        """Load the model from disk, again if it is served; if that fails, what was served before still is."""
        parameters = (await self._body(request)).get("parameters")
        if parameters:
            raise InvalidRequest(
                "load accepts no parameters: a model is configured in its model.yaml, and its versions are those that"
                " the routing file names"
            )
        try:
            await self._operations.load(request.path_params["model"], **_asker(request))
        except RequestError:
            raise
        except GatewayError as error:
            raise InvalidRequest(f"loading failed, so what was served before is still served: {error}") from None
        return Response(status_code=200)

    async def unload(self, request: Request) -> Response:
        """Stop serving the model."""
        await self._body(request)
        await self._operations.unload(request.path_params["model"], **_asker(request))
        return Response(status_code=200)

    async def _body(self, request: Request) -> dict[str, Any]:
        headers = dict(request.scope["headers"])
        body = await read_body(request.receive, headers, self._max_body)
        if not body.strip():
            return {}
        try:
            document = parse_json(body)
        except NotJson as error:
            raise refusal_of(error, body, headers, "send application/json, or no body") from None
        if type(document) is not dict:
            raise InvalidRequest("the body must be a JSON object, or empty")
        return document


def _asker(request: Request) -> dict[str, str]:
    identity, client = identity_in(request.scope), request.client
    return {"by": LOCAL_CALLER if identity is None else str(identity), "origin": client.host if client else ""}
