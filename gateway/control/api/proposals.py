"""POST /api/releases/{model}/propose: a tar of a version's folder becomes the model's candidate; or, without a body, a
version whose folder is in the repository already.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.access import UPLOAD_TYPE
from gateway.control.api.bodies import NO_REASON, ReasonBody, caller, origin_of
from gateway.control.api.documents import EditDocument
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.openapi import Operation, Parameter
from gateway.control.api.rendering import decision_document
from gateway.control.command_priority import CommandPriority
from gateway.control.config.yaml_candidate import EVERYONE, RAMP
from gateway.control.control_plane import ControlPlane
from gateway.control.proposal import AcceptedProposal, Proposal
from gateway.control.proposals.pace import Pace
from gateway.control.proposals.staged_version import too_large
from gateway.control.propose import ACTION, Proposals
from gateway.errors import BodyTooSlow, InvalidRequest, RequestError, UnsupportedMedia
from gateway.settings.problems import problems_of
from gateway.settings.scalars import read
from gateway.settings.units import Version
from gateway.web.body import ENCODING, ClientGone, headers_by_name
from gateway.web.responses import JsonResponse

PATH: Final = "/api/releases/{model}/propose"
PIECE_BYTES: Final = 1 << 20  # written at a time
PIECE_TIMEOUT_S: Final = 30.0  # for a piece to arrive
ARCHIVE_OVERHEAD_BYTES: Final = 8 << 20  # headers and padding beyond the files
DRAIN_BYTES: Final = 64 << 20  # read of a body that is refused, so that the client gets the reason
DRAIN_TIMEOUT_S: Final = 10.0
NO_VERSION: Final = (
    f"there is no body, so no version: send a tar of its folder as {UPLOAD_TYPE}, or give as `version` the number of"
    " one that is in the repository"
)
_PARAMETERS: Final = (
    Parameter(
        "version",
        "The version's number; without it the next free one. Without a body: the version in the repository.",
        {"type": "integer", "minimum": 1},
    ),
    Parameter("weight", f"The weight in percent of the route `{EVERYONE}`.", {"type": "number"}),
    Parameter("ramp", f"Let the route `{EVERYONE}` follow the ramp.", {"type": "boolean"}),
    Parameter("replace", "Also if another candidate is under way.", {"type": "boolean"}),
    Parameter("reason", "The reason, recorded with the decision."),
)


class ProposeQuery(ReasonBody):
    """The parameters of a proposal."""

    version: Version | None = None
    weight: float | None = Field(default=None, ge=0, le=100)
    ramp: bool = False
    replace: bool = False

    @model_validator(mode="after")
    def _one_weight(self) -> "ProposeQuery":
        if self.ramp and self.weight is not None:
            raise ValueError("has both weight and ramp; a ramp sets the weight itself, so give one")
        return self


class ProposalDocument(EditDocument):
    """A proposal that was accepted. `version`: the candidate's number; `replaced`: the candidate before, or null;
    `files`, `bytes`: how many it has.
    """

    version: int
    replaced: int | None
    files: int
    bytes: int


class ProposeEndpoint:
    """The endpoint. It raises the errors of `Proposals.propose`."""

    def __init__(self, control: ControlPlane, proposals: Proposals) -> None:
        self._control = control
        self._proposals = proposals

    def endpoints(self) -> list[Endpoint]:
        operation = Operation(
            "POST",
            PATH,
            ACTION,
            "Make a version the candidate: one sent as a tar of its folder, or without a body one in the repository.",
            answer=ProposalDocument,
            errors=(400, 403, 404, 408, 409, 413, 415, 503),
            parameters=_PARAMETERS,
            upload=UPLOAD_TYPE,
        )
        return [Endpoint(operation, self.propose)]

    async def propose(self, request: Request) -> Response:
        body = _UploadBody(request, self._control.command_priority)
        try:
            query = _parse_query(request)
            ask = Proposal(
                model=request.path_params["model"],
                version=query.version,
                weight=RAMP if query.ramp else query.weight,
                replace=query.replace,
                by=caller(request),
                reason=query.reason or NO_REASON,
                evidence=origin_of(request),
            )
            body.check(self._control.max_proposal)
            if not body.is_archive and query.version is None:
                raise InvalidRequest(NO_VERSION)
            accepted = await self._proposals.propose(ask, body.pieces() if body.is_archive else None)
        except RequestError as error:
            await body.drain()
            closing = {"connection": "close"} if body.unread else {}
            return JsonResponse({"error": str(error)}, error.status, dict(error.headers) | closing)
        document: ProposalDocument = {
            "model": ask.model,
            "action": ACTION,
            "dry_run": False,
            "difference": accepted.edited.difference,
            "decision": decision_document(accepted.edited.decision) if accepted.edited.decision else None,
            "on_disk": self._control.decision_log.on_disk and self._control.acceptance.on_disk,
            "fleet": None,  # the version's files are on this host alone
            "version": accepted.version,
            "replaced": accepted.replaced,
            "files": accepted.files,
            "bytes": accepted.total_bytes,
            "notes": self._notes(ask.model, accepted, brought=body.is_archive),
        }
        return JsonResponse(document)

    def _notes(self, model: str, accepted: AcceptedProposal, *, brought: bool) -> list[str]:
        release, version = self._control.served[model], accepted.version
        routes = release.split.routes if release.split else ()
        notes = []
        if not any(route.weight for route in routes):
            named = routes[0].name if routes else EVERYONE
            notes.append(f"it gets no traffic yet; to give it some: gateway weight {model} {named} 5")
        else:
            notes.append(f"traffic: {', '.join(f'{route.name} {_share(route.weight)}' for route in routes)}")
        if accepted.replaced is not None:
            notes.append(f"candidate {accepted.replaced} is replaced; its files stay, and its stop if it has one")
        if self._control.fleet is not None and not brought:
            notes.append(
                "in a fleet: the edit is on this host only; run the same command on each other host, once the version"
                " is there, too"
            )
        elif self._control.fleet is not None:
            notes.append(
                "in a fleet: the files and the edit are on this host only; run the same command with --version"
                f" {version} on each other host, or, if all share one models folder, gateway propose {model}"
                f" {version}"
            )
        return notes


def _share(weight: Literal["ramp"] | int) -> str:
    return "by the ramp" if weight == RAMP else f"{int(weight) / 10_000:g}%"


class _UploadBody:
    """The body of a request, in pieces of PIECE_BYTES. `unread`: there is more to it. `is_archive`: it is said to be
    one; else it is empty (access.py). So an archive that came out empty is not taken for the wish to bring none.
    """

    def __init__(self, request: Request, command_priority: CommandPriority) -> None:
        self._receive = request.receive
        self._headers = headers_by_name(request.scope["headers"])
        self._command_priority = command_priority
        self._pace = Pace()
        self.unread = True
        kind = self._headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self.is_archive = kind == UPLOAD_TYPE.encode()

    def check(self, max_bytes: int) -> None:
        """Raise BodyTooLarge or UnsupportedMedia if the headers say that the body cannot be taken."""
        if ENCODING in self._headers:
            raise UnsupportedMedia("send the tar archive without content-encoding")
        declared = self._headers.get(b"content-length", b"0")
        if len(declared) > 18 or int(declared) > max_bytes + ARCHIVE_OVERHEAD_BYTES:
            raise too_large(max_bytes)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises BodyTooSlow, ClientGone. Lets orders go first."""
        while self.unread:
            piece = bytearray()
            try:
                async with asyncio.timeout(PIECE_TIMEOUT_S):
                    while self.unread and len(piece) < PIECE_BYTES:
                        piece += await self._message()
            except TimeoutError:
                raise BodyTooSlow(
                    f"less than {PIECE_BYTES >> 20} MiB of the body arrived within {PIECE_TIMEOUT_S:g} s"
                ) from None
            await self._command_priority.yield_to_commands()
            yield bytes(piece)

    async def drain(self) -> None:
        """Read on, up to a limit: closing with unread bytes resets the connection, and the client might not get the
        response. A client that waits for `100 Continue` is not asked for the body.
        """
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            return
        left = DRAIN_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while self.unread and left > 0:
                    left -= len(await self._message())
                    await self._command_priority.yield_to_commands()

    async def _message(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.unread = message.get("more_body", False)
        body: bytes = message.get("body", b"")
        await self._pace.after(len(body))
        return body


def _parse_query(request: Request) -> ProposeQuery:
    """The parameters; raises InvalidRequest."""
    given: dict[str, Any] = {
        name: value if name == "reason" else read(value) for name, value in request.query_params.multi_items()
    }
    try:
        return ProposeQuery.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest("; ".join(problems_of(error, given, ProposeQuery))) from None
