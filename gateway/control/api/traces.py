"""GET /api/traces/{prediction_id}: what `gateway trace` finds, over the network."""

import logging
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.bodies import caller
from gateway.control.api.datasets import PROTECTED, TEXT, JobResponse, parse_query
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.openapi import Operation
from gateway.control.control_plane import ControlPlane
from gateway.records.job import RecordsJob
from gateway.records.token import unverified
from gateway.records.trace_document import TraceDocument
from gateway.settings.base import Settings

log: Final = logging.getLogger("gateway.control.api")


class TraceQuery(Settings):
    """A trace takes no parameters."""


class TraceEndpoint:
    """The endpoint. It raises InvalidRequest, and the errors of `RecordsJobs.run`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def endpoints(self) -> list[Endpoint]:
        operation = Operation(
            "GET",
            "/api/traces/{prediction_id}",
            "trace",
            "From a prediction to its training data; of one without a record what its id says, beside the 404's error.",
            answer=TraceDocument,
            errors=(400, 404, 409, 503),
        )
        return [Endpoint(operation, self.trace)]

    async def trace(self, request: Request) -> Response:
        parse_query(request, TraceQuery)
        prediction_id: str = request.path_params["prediction_id"]
        token, control = unverified(prediction_id), self._control
        job = RecordsJob(
            kind="trace",
            model=token.model,
            state=str(control.state.absolute()),
            models=str(control.repository.path.absolute()),
            scratch=control.records_jobs.scratch(),
            format="json",
            prediction_id=prediction_id,
            sample=control.records_settings.sample,
            retain_bytes=control.records_settings.retain,
            in_fleet=control.fleet is not None,
        )
        log.info("%s asks for the trace of %s", caller(request), prediction_id)
        headers = {"content-type": TEXT["json"]} | PROTECTED
        return JobResponse(control.records_jobs, job, headers, control.command_priority)
