"""What the control plane is asked: bodies by their schema, and who asks, from where."""

from typing import Any, Final, TypeVar

import orjson
from pydantic import Field, ValidationError, field_validator
from starlette.requests import Request

from gateway.errors import InvalidRequest
from gateway.settings.base import Settings
from gateway.settings.problems import problems_of
from gateway.settings.units import Name, Version
from gateway.web.authentication import identity_in
from gateway.web.body import read_body

MAX_BODY: Final = 65536
REASON_LENGTH: Final = 1000
NO_REASON: Final = "no reason given"
LOCAL: Final = "local"
S = TypeVar("S", bound=Settings)


class ReasonBody(Settings):
    """Why something is done; kept with the decision."""

    reason: str = Field(default="", max_length=REASON_LENGTH)

    @field_validator("reason")
    @classmethod
    def _one_line(cls, value: str) -> str:
        """It is shown in logs and terminals, line by line."""
        if not value.isprintable():
            raise ValueError("must be one line, without control characters")
        return value


class Promotion(ReasonBody):
    """`dry_run`: say what would change, and change nothing. `candidate`: refuse where it is another by now."""

    dry_run: bool = False
    candidate: Version | None = None


class Reweighting(Promotion):
    """Another weight, in percent, for one route."""

    route: Name
    percent: float = Field(ge=0, le=100)


class ExplainBody(Settings):
    """A request that someone thinks of: which version would answer it? `key` stands for the prediction's own."""

    model: str
    customer: str | None = None
    modality: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, str | int | float | bool] = Field(default_factory=dict)
    key: str | None = None


async def parse_body(request: Request, schema: type[S]) -> S:
    """The body under `schema`, an empty one as {}."""
    body = await read_body(request.receive, dict(request.scope["headers"]), MAX_BODY)
    try:
        document: Any = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"the body must be a JSON object, {{…}}; it is {document!r:.60}")
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest("; ".join(problems_of(error, document, schema))) from None


def caller(request: Request) -> str:
    """Who asks, for the list of decisions. Without keys: someone on this machine."""
    return str(identity_in(request.scope) or LOCAL)


def origin_of(request: Request) -> dict[str, Any]:
    """Where the request comes from, for a decision's evidence."""
    return {"from": request.client.host} if request.client else {}
