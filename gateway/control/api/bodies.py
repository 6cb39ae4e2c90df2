"""Request bodies of the control plane, validated by schema, and the caller's identity and address."""

from typing import Any, Final, TypeVar

from pydantic import Field, ValidationError, field_validator
from starlette.requests import Request

from gateway.errors import InvalidRequest
from gateway.protocol.json_text import parse_json
from gateway.settings.base import Settings
from gateway.settings.problems import problems_of
from gateway.settings.units import Name, Version
from gateway.web.authentication import LOCAL_CALLER, identity_in
from gateway.web.body import read_body

MAX_BODY_BYTES: Final = 65536
REASON_LENGTH: Final = 1000
NO_REASON: Final = "no reason given"
CLIENT_HEADER: Final = "x-gateway-client"
CLIENTS: Final = ("console", "cli", "mlflow")
S = TypeVar("S", bound=Settings)


class ReasonBody(Settings):
    """The reason for a command; it is recorded with the decision."""

    reason: str = Field(default="", max_length=REASON_LENGTH)

    @field_validator("reason")
    @classmethod
    def _one_line(cls, value: str) -> str:
        """Logs and terminals show it line by line."""
        if not value.isprintable():
            raise ValueError("must be one line, without control characters")
        return value


class EditBody(ReasonBody):
    """`dry_run`: report what would change, and change nothing. `candidate`: refuse if it is another by now."""

    dry_run: bool = False
    candidate: Version | None = None


class PromoteBody(EditBody):
    """`keep_routes`: the routes stay in the file, as a comment for the next candidate; otherwise they are removed."""

    keep_routes: bool = False


class UndoBody(ReasonBody):
    """`stable`: the version that was promoted; refuse if another is stable by now. `keep_routes`: it is the candidate
    again, with its routes; otherwise the version before it answers every request.
    """

    dry_run: bool = False
    stable: Version | None = None
    keep_routes: bool = False


class WeightBody(EditBody):
    """A new weight, in percent, for one route."""

    route: Name
    percent: float = Field(ge=0, le=100)


class ExplainBody(Settings):
    """A hypothetical request: which version would answer it? `key` stands in for the prediction's own key."""

    model: str
    customer: str | None = None
    modality: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, str | int | float | bool] = Field(default_factory=dict)
    key: str | None = None


async def parse_body(request: Request, schema: type[S]) -> S:
    """The body validated by `schema`; an empty body counts as {}. Raises InvalidRequest."""
    body = await read_body(request.receive, dict(request.scope["headers"]), MAX_BODY_BYTES)
    document: Any = parse_json(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise InvalidRequest(f"the body must be a JSON object, {{…}}; it is {document!r:.60}")
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest("; ".join(problems_of(error, document, schema))) from None


def caller(request: Request) -> str:
    """Who sent the command, for the decision log: the key's customer and id; without keys, someone on this machine,
    with the client that says so of itself.
    """
    if (identity := identity_in(request.scope)) is not None:
        return str(identity)
    client = _client(request)
    return f"{LOCAL_CALLER} via {client}" if client else LOCAL_CALLER


def origin_of(request: Request) -> dict[str, Any]:
    """The caller's address, and its client if it is known, for a decision's evidence."""
    client = _client(request)
    origin = {"from": request.client.host} if request.client else {}
    return origin | ({"via": client} if client else {})


def _client(request: Request) -> str:
    """The client, one of CLIENTS, by the header that it sends; empty for any other."""
    client = request.headers.get(CLIENT_HEADER, "")
    return client if client in CLIENTS else ""
