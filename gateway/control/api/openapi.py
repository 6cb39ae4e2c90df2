"""The OpenAPI 3.1 document, made of the endpoints' operations. pydantic makes JSON Schemas of their types."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from gateway import __version__

VERSION: Final = "3.1.0"
JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"
PossibleErrors = Callable[[str, str], Iterable[int]]
_SCHEMAS: Final = "#/components/schemas/{model}"


class ErrorDocument(TypedDict):
    """Why a request was refused, and how to correct it."""

    error: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query or, by `place`, in a header. Those in the path are read from the path."""

    name: str
    summary: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `answer`, `body`: the types of the JSON sent and received; None: no JSON.

    `errors`: the statuses of its errors. `media`: the response's content type; None: it has no body. `binary`: request
    and response may be bytes instead. `upload`: the content type of a body that is no JSON.
    """

    method: str
    path: str
    name: str
    summary: str
    _: KW_ONLY
    answer: Any = None
    errors: Sequence[int] = ()
    body: Any = None
    body_required: bool = False
    parameters: Sequence[Parameter] = ()
    status: int = 200
    media: str | None = JSON
    binary: bool = False
    upload: str | None = None


def openapi_document(
    title: str, description: str, operations: Iterable[Operation], tag: str, refused: PossibleErrors
) -> dict[str, Any]:
    """The OpenAPI document. `refused`: the statuses with which access control may refuse a method and path."""
    operations = [replace(one, errors=sorted({*one.errors, *refused(one.method, one.path)})) for one in operations]
    types = {id(kind): kind for operation in operations for kind in (operation.answer, operation.body) if kind}
    keyed = [(key, "serialization", TypeAdapter(kind)) for key, kind in types.items()]
    keyed.append((id(ErrorDocument), "serialization", TypeAdapter(ErrorDocument)))
    schemas, shared = TypeAdapter.json_schemas(keyed, ref_template=_SCHEMAS)  # type: ignore[arg-type]
    by_type = {key: schema for (key, _), schema in schemas.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_type, tag)
    return {
        "openapi": VERSION,
        "info": {"title": title, "version": __version__, "description": description},
        "tags": [{"name": tag}],
        "paths": paths,
        "components": {
            "schemas": shared.get("$defs", {}),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key, where on."}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(operation: Operation, schemas: Mapping[Any, Any], tag: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [tag],
        "parameters": [
            {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
            for part in operation.path.split("/")
            if part.startswith("{")
        ]
        + [_parameter(parameter) for parameter in operation.parameters],
        "responses": {str(operation.status): _answer(operation, schemas)},
    }
    if operation.body is not None:
        content = {JSON: {"schema": schemas[id(operation.body)]}} | ({OCTET_STREAM: {}} if operation.binary else {})
        described["requestBody"] = {"required": operation.body_required, "content": content}
    if operation.upload is not None:
        binary = {"schema": {"type": "string", "format": "binary"}}
        described["requestBody"] = {"required": operation.body_required, "content": {operation.upload: binary}}
    for status in operation.errors:
        content = {JSON: {"schema": schemas[id(ErrorDocument)]}}
        described["responses"][str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    return described


def _answer(operation: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    if operation.media is None:
        return {"description": "Done."}
    schema = schemas[id(operation.answer)] if operation.answer else {"type": "string"}
    content = {operation.media: {"schema": schema}} | ({OCTET_STREAM: {}} if operation.binary else {})
    return {"description": operation.summary, "content": content}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": False,
        "description": parameter.summary,
        "schema": dict(parameter.schema),
    }
