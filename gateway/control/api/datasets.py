"""GET /api/datasets/{model} and /api/analyses/{model}: what `gateway export` and `analyze` make, over the network."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeVar

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.backends.not_served import MODEL_NAME
from gateway.control.api.bodies import caller
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.openapi import Operation, Parameter
from gateway.control.command_priority import CommandPriority
from gateway.control.control_plane import ControlPlane
from gateway.control.records_jobs import PIPE_BYTES, JobResult, RecordsJobs
from gateway.errors import GatewayError, InvalidRequest, NotFound, NotReady
from gateway.records.job import RecordsJob
from gateway.records.time_range import EXAMPLES, NOW, parse_time_ns
from gateway.settings.base import Settings
from gateway.settings.problems import problems_of
from gateway.settings.scalars import read

BYTES_PER_S: Final = 32 << 20  # sent at most: control has precedence over the workers, and would take their cores
MIN_PAUSE_S: Final = 0.002
STALL_TIMEOUT_S: Final = 30.0  # for the client to take a piece
MIN_BYTES_PER_S: Final = 64 << 10  # a client that is slower on the whole is cut off
GRACE_S: Final = 60.0
ERRORS: Final = (400, 404, 409, 501, 503)
TEXT: Final = {"json": "application/json", "html": "text/html; charset=utf-8", "text": "text/plain; charset=utf-8"}
TAR: Final = "application/x-tar"
PROTECTED: Final = {  # customers' texts are in it
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_TIMES: Final = (
    Parameter("since", f"Predictions from this time on: {EXAMPLES}."),
    Parameter("until", "Predictions before this time."),
    Parameter("feedback_until", "Feedback before this time; what came later is as if it had not come."),
)
FORMATS: Final = ("parquet", "jsonl", "csv")
VARIANTS: Final = ("stable", "candidate", "pinned")
FLAGS: Final = ("with_feedback", "flat")
S = TypeVar("S", bound=Settings)
log: Final = logging.getLogger("gateway.control.api")


class AnalysisQuery(Settings):
    """The parameters of an analysis."""

    since: str | None = None
    until: str | None = None
    feedback_until: str | None = None
    format: Literal["json", "html", "text"] = "json"


class DatasetQuery(Settings):
    """The parameters of a data set."""

    since: str | None = None
    until: str | None = None
    feedback_until: str | None = None
    variant: Literal["stable", "candidate", "pinned"] | None = None
    with_feedback: bool = False
    format: Literal["parquet", "jsonl", "csv"] = "parquet"
    flat: bool = False


class DatasetEndpoints:
    """The endpoints. They raise InvalidRequest, and the errors of `RecordsJobs.run`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._jobs = control.records_jobs

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                Operation(
                    "GET",
                    "/api/datasets/{model}",
                    "dataset",
                    "Recorded predictions with their feedback, as a tar of what `gateway export` writes.",
                    errors=ERRORS,
                    parameters=(
                        *_TIMES,
                        Parameter("variant", "Only predictions of this variant.", _one_of(VARIANTS)),
                        Parameter("with_feedback", "Only predictions with feedback.", {"type": "boolean"}),
                        Parameter("format", "The files' format.", _one_of(FORMATS)),
                        Parameter("flat", "A row for each row of a request, a column a feature.", {"type": "boolean"}),
                    ),
                    media=TAR,
                ),
                self.dataset,
            ),
            Endpoint(
                Operation(
                    "GET",
                    "/api/analyses/{model}",
                    "analysis",
                    "What `gateway analyze` finds.",
                    answer=dict[str, Any],
                    errors=ERRORS,
                    parameters=(*_TIMES, Parameter("format", "The form.", _one_of(TEXT))),
                ),
                self.analysis,
            ),
        ]

    async def dataset(self, request: Request) -> Response:
        query = parse_query(request, DatasetQuery)
        job = self._job(
            request,
            "dataset",
            query,
            variant=query.variant,
            with_feedback=query.with_feedback,
            flat=query.flat,
        )
        name = f'attachment; filename="{job.model}.tar"'
        return self._response(job, {"content-type": TAR, "content-disposition": name})

    async def analysis(self, request: Request) -> Response:
        query = parse_query(request, AnalysisQuery)
        return self._response(self._job(request, "analysis", query), {"content-type": TEXT[query.format]})

    def _job(
        self, request: Request, kind: Literal["dataset", "analysis"], query: DatasetQuery | AnalysisQuery, **more: Any
    ) -> RecordsJob:
        now_ns = time.time_ns()
        end = NOW if kind == "dataset" else None  # so that the manifest names this data set for ever
        try:
            times = [
                parse_time_ns(text, now_ns) if text else None
                for text in (query.since, query.until or end, query.feedback_until or end)
            ]
        except GatewayError as error:
            raise InvalidRequest(str(error)) from None
        job = RecordsJob(
            kind=kind,
            model=_model(request),
            state=str(self._control.state.absolute()),
            models=str(self._control.repository.path.absolute()),
            scratch=self._jobs.scratch(),
            format=query.format,
            since_ns=times[0],
            until_ns=times[1],
            feedback_until_ns=times[2],
            **more,
        )
        log.info("%s asks for the %s of '%s': %s", caller(request), kind, job.model, request.url.query or "all of it")
        return job

    def _response(self, job: RecordsJob, headers: dict[str, str]) -> "JobResponse":
        return JobResponse(self._jobs, job, headers | PROTECTED, self._control.command_priority)


class JobResponse(Response):
    """Has the job done, and sends its result at the client's pace; ends the job when the client goes away."""

    def __init__(
        self, jobs: RecordsJobs, job: RecordsJob, headers: dict[str, str], command_priority: CommandPriority
    ) -> None:
        super().__init__(headers=headers)
        self._jobs = jobs
        self._job = job
        self._command_priority = command_priority
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        answering, gone = loop.create_task(self._answer(send)), loop.create_task(_wait_until_gone(receive))
        try:
            await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # by the server, which ends
            if not self._started:
                raise NotReady("the gateway ends") from None
        finally:
            gone.cancel()
            answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering

    async def _answer(self, send: Send) -> None:
        async with self._jobs.run(self._job) as result:
            self.headers["content-length"] = str(result.size)
            self._started = True
            await send({"type": "http.response.start", "status": result.status, "headers": self.raw_headers})
            loop = asyncio.get_running_loop()
            end_s = loop.time() + GRACE_S + result.size / MIN_BYTES_PER_S
            try:
                async with asyncio.timeout_at(end_s):
                    await self._send(result, send)
            except (TimeoutError, _CutOff) as error:  # the server closes the connection: less has come than announced
                reason = str(error) or "the client takes it too slowly"
                log.warning("the %s of '%s' is not sent to its end: %s", self._job.kind, self._job.subject, reason)

    async def _send(self, result: JobResult, send: Send) -> None:
        left, due_s = result.size, 0.0
        loop = asyncio.get_running_loop()
        while left:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                piece = await result.stream.read(PIPE_BYTES)
                if not piece:
                    raise _CutOff(f"the process that made it ended with {left} bytes unsent")
                left -= len(piece)
                await self._command_priority.yield_to_commands()
                await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
            now_s = loop.time()
            due_s = max(now_s, due_s) + len(piece) / BYTES_PER_S
            if due_s - now_s > MIN_PAUSE_S:
                await asyncio.sleep(due_s - now_s)


class _CutOff(Exception):
    """The process has ended before its result did."""


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _model(request: Request) -> str:
    """The model in the path; raises NotFound if none can have that name."""
    name: str = request.path_params["model"]
    if not MODEL_NAME.fullmatch(name):
        raise NotFound(f"{name!r:.80} is no model's name; names are letters, digits, '_', '-' and '.', at most 255")
    return name


def parse_query(request: Request, schema: type[S]) -> S:
    """The parameters; raises InvalidRequest, and HTTPException for HEAD, whose answer would have to be made, too."""
    if request.method != "GET":
        raise HTTPException(405, headers={"allow": "GET"})
    items = request.query_params.multi_items()
    twice = [name for name, times in Counter(name for name, _ in items).items() if times > 1]
    if twice:
        raise InvalidRequest(f"{twice[0]!r:.80} is given more than once")
    given: dict[str, Any] = {name: read(value) if name in FLAGS else value for name, value in items}
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest("; ".join(problems_of(error, given, schema))) from None


def _one_of(words: Iterable[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}
