"""GET /openapi.json of the data plane: the Open Inference Protocol as served here, for client generators."""

from functools import cache
from typing import Any, Final, NotRequired

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from gateway.web.openapi import Operation, Parameter, document
from gateway.web.responses import JsonResponse
from gateway.worker.http.access import possible_errors

PATH: Final = "/openapi.json"
MODEL: Final = "/v2/models/{model}"
PINNED: Final = f"{MODEL}/versions/{{version}}"
INFER_ERRORS: Final = (400, 401, 403, 404, 408, 409, 413, 415, 429, 431, 500, 503, 504)
FEEDBACK_ERRORS: Final = (400, 401, 403, 408, 413, 415, 503)
COMMAND_ERRORS: Final = (400, 401, 403, 404, 409, 413, 415)
DESCRIPTION: Final = (
    "Open Inference Protocol V2. Inference takes JSON, JSON followed by binary tensors, or a raw body such as image/png"
    " for a model with one BYTES input."
)


class InputDocument(TypedDict):
    """A tensor as sent: `data` is nested or flat, or left out if it follows the JSON in binary."""

    name: str
    datatype: str
    shape: list[int]
    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, Any]]


class RequestedOutputDocument(TypedDict):
    """A requested output; parameters: binary_data, classification."""

    name: str
    parameters: NotRequired[dict[str, Any]]


class InferRequestDocument(TypedDict):
    """parameters: customer, modality, timeout (µs), binary_data_output, and those that routing rules name."""

    inputs: list[InputDocument]
    id: NotRequired[str]
    outputs: NotRequired[list[RequestedOutputDocument]]
    parameters: NotRequired[dict[str, Any]]


class AnswerParameters(TypedDict):
    """`prediction_id` is to be sent with feedback."""

    prediction_id: str
    variant: str
    route: str


class InferAnswerDocument(TypedDict):
    """A prediction, and which version gave it."""

    model_name: str
    model_version: str
    outputs: list[InputDocument]
    parameters: AnswerParameters
    id: NotRequired[str]


class FeedbackDocument(TypedDict):
    """The outcome of a prediction: at least one of truth, reward and metrics. `truth`: a class by name or number."""

    prediction_id: str
    truth: NotRequired[Any]
    reward: NotRequired[float | None]
    metrics: NotRequired[dict[str, float] | None]
    comment: NotRequired[str | None]


class RejectedDocument(TypedDict):
    """An entry that was not accepted, by its index in the list, and why."""

    index: int
    error: str


class UncountedDocument(TypedDict):
    """An entry whose truth is recorded but counts for no guard, by its index in the list, and why."""

    index: int
    reason: str


class AcceptedDocument(TypedDict):
    """How many entries were recorded, and which were not. If none was, the status is 400 and `error` gives a reason."""

    accepted: int
    rejected: list[RejectedDocument]
    uncounted: NotRequired[list[UncountedDocument]]


class ServerDocument(TypedDict):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class LiveDocument(TypedDict):
    live: bool


class ReadyDocument(TypedDict):
    ready: bool
    name: NotRequired[str]


class SpecDocument(TypedDict):
    """An input or output of a model; -1 in `shape`: any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelDocument(TypedDict):
    """A model, or one version of it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[SpecDocument]
    outputs: list[SpecDocument]


class ConfigTensorDocument(TypedDict):
    """A tensor in Triton's model configuration; `dims` without the rows if max_batch_size is positive."""

    name: str
    data_type: str
    dims: list[int]
    optional: NotRequired[bool]


class ModelConfigDocument(TypedDict):
    """Triton's model configuration. `max_batch_size`: most rows that run together; 0: no batching."""

    name: str
    platform: str
    backend: str
    default_model_filename: str
    version_policy: dict[str, Any]
    max_batch_size: int
    input: list[ConfigTensorDocument]
    output: list[ConfigTensorDocument]
    instance_group: list[dict[str, Any]]
    dynamic_batching: NotRequired[dict[str, int]]


class StatisticsDocument(TypedDict):
    """Triton's statistics."""

    model_stats: list[dict[str, Any]]


class IndexEntry(TypedDict):
    """A version in the repository."""

    name: str
    version: str
    state: str
    reason: str


class IndexRequest(TypedDict):
    """`ready`: list only versions that are served."""

    ready: NotRequired[bool]


class Nothing(TypedDict):
    """Load and unload take no parameters."""


def operations() -> list[Operation]:
    """All operations but that of the document itself."""
    return [
        Operation("GET", "/v2", "server", "Who serves.", ServerDocument),
        Operation("GET", "/v2/", "server_too", "Who serves.", ServerDocument),
        Operation("GET", "/v2/health/live", "live", "The process is alive.", LiveDocument),
        Operation("GET", "/v2/health/ready", "ready", "Requests are served.", ReadyDocument, (503,)),
        Operation("GET", "/v2/models/stats", "all_statistics", "Statistics of all models.", StatisticsDocument),
        *_of(MODEL, "model"),
        *_of(PINNED, "version"),
        Operation(
            "POST", "/v2/feedback", "feedback", "What became of predictions: one, or a list of up to 10,000.",
            AcceptedDocument, FEEDBACK_ERRORS, FeedbackDocument | list[FeedbackDocument], body_required=True,
            status=202,
        ),
        Operation(
            "POST", "/v2/repository/index", "index", "What the repository holds.", list[IndexEntry], COMMAND_ERRORS,
            IndexRequest,
        ),
        *(
            Operation(
                "POST", f"/v2/repository/models/{{model}}/{order}", order, f"{order.title()} a model.",
                errors=COMMAND_ERRORS, body=Nothing, media=None,
            )
            for order in ("load", "unload")
        ),
    ]  # fmt: skip


def _of(path: str, what: str) -> list[Operation]:
    asked = (
        Parameter("x-customer-id", "Who asks; routing sticks to it.", place="header"),
        Parameter("x-modality", "What the inputs are.", place="header"),
        Parameter("x-request-id", "The caller's own id: recorded, and sent back.", place="header"),
        Parameter("traceparent", "W3C Trace Context.", place="header"),
        Parameter(
            "inference-header-content-length", "The JSON's length, before binary tensors.",
            {"type": "integer", "minimum": 0}, "header",
        ),
    )  # fmt: skip
    return [
        Operation("GET", path, what, "Metadata.", ModelDocument, (404,)),
        Operation("GET", f"{path}/ready", f"{what}_ready", "Whether it serves.", ReadyDocument, (404, 503)),
        Operation("GET", f"{path}/config", f"{what}_config", "Configuration.", ModelConfigDocument, (404,)),
        Operation("GET", f"{path}/stats", f"{what}_statistics", "Statistics.", StatisticsDocument, (404,)),
        Operation(
            "POST", f"{path}/infer", f"{what}_infer", "A prediction.", InferAnswerDocument, INFER_ERRORS,
            InferRequestDocument, body_required=True, parameters=asked, binary=True,
        ),
    ]  # fmt: skip


@cache
def openapi() -> dict[str, Any]:
    """The whole document."""
    own = Operation("GET", PATH, "openapi", "This document.", dict[str, Any])
    return document("canary-gateway: data plane", DESCRIPTION, [*operations(), own], "inference", possible_errors)


async def _openapi(request: Request) -> Response:
    return JsonResponse(openapi())


def routes() -> list[Route]:
    return [Route(PATH, _openapi)]
