"""The endpoints that change releases: stop, resume, hold, continue, promote, weight. Each change is recorded with who
made it, from where and why.
"""

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.bodies import NO_REASON, PromoteBody, ReasonBody, WeightBody, caller, origin_of, parse_body
from gateway.control.api.documents import CommandDocument, EditDocument
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.fleet_rendering import confirmation_document
from gateway.control.api.openapi import Operation
from gateway.control.api.rendering import decision_document
from gateway.control.config.editor import Edit, RoutingEditor
from gateway.control.config.yaml_edit import promote, set_weight
from gateway.control.control_plane import ControlPlane
from gateway.control.fleet.confirmation import Confirmation
from gateway.control.release.decisions import ReleaseDecision
from gateway.control.release.release_status import ReleaseStatus
from gateway.control.release.stages import Event
from gateway.control.status import release_status
from gateway.errors import Conflict
from gateway.web.responses import JsonResponse

RELEASE_PATH: Final = "/api/releases/{model}"
ERROR_STATUSES: Final = (400, 403, 404, 409, 413, 415)


class ReleaseCommands:
    """The endpoints that change a release. They raise NotFound, Conflict and the errors of `parse_body`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._editor = RoutingEditor(
            control.routing_file,
            control.decision_log,
            lambda written, note: control.reload(written=written, note=note),
            control.acceptance.history,
        )

    @property
    def editor(self) -> RoutingEditor:
        """The editor of the routing file, of which there is one."""
        return self._editor

    def endpoints(self) -> list[Endpoint]:
        def operation(name: str, summary: str, body: type, answer: type, *, needs_body: bool = False) -> Operation:
            return Operation(
                "POST",
                f"{RELEASE_PATH}/{name}",
                name,
                summary,
                answer=answer,
                errors=ERROR_STATUSES,
                body=body,
                body_required=needs_body,
            )

        return [
            Endpoint(
                operation(
                    "stop",
                    "Stop the candidate's traffic: once this has answered, no response comes from the candidate.",
                    ReasonBody,
                    CommandDocument,
                ),
                self.stop,
            ),
            Endpoint(
                operation("resume", "Send traffic to the candidate again, as routed.", ReasonBody, CommandDocument),
                self.resume,
            ),
            Endpoint(
                operation("hold", "Hold the ramp at its weight until it is continued.", ReasonBody, CommandDocument),
                partial(self.ramp_command, Event.HOLD),
            ),
            Endpoint(
                operation("continue", "Continue a ramp that was held or paused.", ReasonBody, CommandDocument),
                partial(self.ramp_command, Event.CONTINUE),
            ),
            Endpoint(
                operation("promote", "Make the candidate stable in the routing file.", PromoteBody, EditDocument),
                self.promote,
            ),
            Endpoint(
                operation(
                    "weight",
                    "Edit a route's weight in the routing file.",
                    WeightBody,
                    EditDocument,
                    needs_body=True,
                ),
                self.weight,
            ),
        ]

    async def stop(self, request: Request) -> Response:
        body = await parse_body(request, ReasonBody)
        decision, confirmation = await self._control.commands.stop(
            request.path_params["model"], caller(request), body.reason or NO_REASON, origin_of(request)
        )
        return self._answer(decision, confirmation)

    async def resume(self, request: Request) -> Response:
        body = await parse_body(request, ReasonBody)
        decision = await self._control.commands.resume(
            request.path_params["model"], caller(request), body.reason or NO_REASON, origin_of(request)
        )
        return self._answer(decision)

    async def ramp_command(self, event: Event, request: Request) -> Response:
        """POST hold or continue, by `event`."""
        body = await parse_body(request, ReasonBody)
        self._check_open(request.path_params["model"])
        decision = self._control.release_manager.command(
            request.path_params["model"], event, caller(request), body.reason or NO_REASON, origin_of(request)
        )
        await self._control.decision_log.wait_durable()
        return self._answer(decision)

    def _answer(self, decision: ReleaseDecision, confirmation: Confirmation | None = None) -> Response:
        problem = self._control.fleet.problem if self._control.fleet is not None else ""
        document: CommandDocument = {
            **decision_document(decision),
            "on_disk": self._control.decision_log.on_disk,
            "fleet": None if confirmation is None else confirmation_document(confirmation, problem),
        }
        return JsonResponse(document)

    async def promote(self, request: Request) -> Response:
        body = await parse_body(request, PromoteBody)
        model = request.path_params["model"]
        overview, candidate = self._release_and_candidate(model, body)
        if overview.stopped:
            raise Conflict(f"candidate {candidate} of '{model}' is stopped; resume it first")
        edit = Edit(
            model=model,
            candidate=candidate,
            action="promote",
            make=partial(promote, model=model, source=self._file()),
            by=caller(request),
            reason=body.reason or NO_REASON,
            evidence=origin_of(request) | {"stable_before": overview.stable},
        )
        return await self._apply_edit(body, edit)

    async def weight(self, request: Request) -> Response:
        body = await parse_body(request, WeightBody)
        model = request.path_params["model"]
        overview, candidate = self._release_and_candidate(model, body)
        make = partial(set_weight, model=model, route=body.route, percent=body.percent, source=self._file())
        evidence = origin_of(request) | {
            "route": body.route,
            "percent": body.percent,
            "percent_before": overview.weights_ppm.get(body.route, 0) / 10_000,
        }
        edit = Edit(
            model=model,
            candidate=candidate,
            action="weight",
            make=make,
            by=caller(request),
            reason=body.reason or NO_REASON,
            evidence=evidence,
        )
        return await self._apply_edit(body, edit)

    def _release_and_candidate(self, model: str, body: PromoteBody) -> tuple[ReleaseStatus, int]:
        """The release and its candidate. Raises NotFound, and Conflict if there is no candidate or it is not the one
        that the body names.
        """
        self._check_open(model)
        overview = release_status(self._control, model)
        if overview.candidate is None:
            raise Conflict(f"'{model}' has no candidate; stable answers every request")
        if body.candidate not in (None, overview.candidate):
            raise Conflict(f"the candidate of '{model}' is now version {overview.candidate}, not {body.candidate}")
        return overview, overview.candidate

    def _check_open(self, model: str) -> None:
        self._control.acceptance.refuse_if_closed(model, self._control.routing_file.status.candidates_closed)

    async def _apply_edit(self, body: PromoteBody, edit: Edit) -> Response:
        edited = await self._editor.apply(edit, dry_run=body.dry_run)
        document: EditDocument = {
            "model": edit.model,
            "action": edit.action,
            "dry_run": body.dry_run,
            "difference": edited.difference,
            "decision": decision_document(edited.decision) if edited.decision else None,
            "on_disk": self._control.decision_log.on_disk and self._control.acceptance.on_disk,
        }
        return JsonResponse(document)

    def _file(self) -> str:
        return str(self._control.routing_file.path)
