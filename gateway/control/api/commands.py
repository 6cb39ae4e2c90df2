"""The endpoints that change releases: stop, resume, hold, continue, promote and its undo, weight. Each change is
recorded with who made it, from where and why.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.api.bodies import (
    NO_REASON,
    EditBody,
    PromoteBody,
    ReasonBody,
    UndoBody,
    WeightBody,
    caller,
    origin_of,
    parse_body,
)
from gateway.control.api.documents import CommandDocument, EditDocument
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.fleet_rendering import confirmation_document, spread_document
from gateway.control.api.openapi import Operation
from gateway.control.api.rendering import decision_document
from gateway.control.config.edit_notes import weight_notes
from gateway.control.config.editor import Edit
from gateway.control.config.undo import text_before, undo_edit, undo_point
from gateway.control.config.yaml_edit import PROMOTE, UNDO, WEIGHT, RoutingChange
from gateway.control.control_plane import ControlPlane
from gateway.control.fleet.confirmation import Confirmation
from gateway.control.release.decisions import ReleaseDecision
from gateway.control.release.known_effects import known_record
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
                    "undo-promote",
                    "Undo the last promotion in the routing file: the version that was stable before is stable again.",
                    UndoBody,
                    EditDocument,
                ),
                self.undo_promote,
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
        change = RoutingChange(PROMOTE, model, keep_routes=body.keep_routes, versions=(overview.stable, candidate))
        edit = Edit(
            model=model,
            candidate=candidate,
            action=change.action,
            make=partial(change.made, source=self._file()),
            by=caller(request),
            reason=body.reason or NO_REASON,
            evidence=origin_of(request) | {"stable_before": overview.stable} | known_record(overview.effects),
        )
        return await self._apply_edit(edit, change, dry_run=body.dry_run)

    async def undo_promote(self, request: Request) -> Response:
        body = await parse_body(request, UndoBody)
        model, control = request.path_params["model"], self._control
        control.settings_of(model)  # raises NotFound
        self._check_open(model)
        memory, decisions = control.acceptance.memory, control.decision_log.decisions
        promoted, point = await asyncio.to_thread(undo_point, memory, model, control.repository)
        if body.stable not in (None, promoted):
            raise Conflict(f"version {promoted} of '{model}' is stable now, not {body.stable}")
        if body.keep_routes and control.fleet_routing is not None:
            raise Conflict(
                "in a fleet an undo does not bring the routes back, since each host has a file of its own; undo it"
                " without them (--drop-routes), then name the candidate and its routes again"
            )
        change = RoutingChange(UNDO, model, stable=point.stable, versions=(promoted, None))
        known = control.acceptance.history, tuple(decisions), model, point.stable, promoted
        before = await asyncio.to_thread(text_before, *known) if body.keep_routes else None
        edit = Edit(
            model=model,
            candidate=promoted,
            action=change.action,
            make=undo_edit(change, before, keep_routes=body.keep_routes, source=self._file()),
            by=caller(request),
            reason=body.reason or NO_REASON,
            evidence=origin_of(request) | {"stable_before": promoted, "stable": point.stable},
        )
        return await self._apply_edit(edit, change, dry_run=body.dry_run)

    async def weight(self, request: Request) -> Response:
        body = await parse_body(request, WeightBody)
        model = request.path_params["model"]
        overview, candidate = self._release_and_candidate(model, body)
        change = RoutingChange(WEIGHT, model, body.route, body.percent, versions=(overview.stable, candidate))
        evidence = origin_of(request) | {
            "route": body.route,
            "percent": body.percent,
            "percent_before": overview.weights_ppm.get(body.route, 0) / 10_000,
        }
        edit = Edit(
            model=model,
            candidate=candidate,
            action=change.action,
            make=partial(change.made, source=self._file()),
            by=caller(request),
            reason=body.reason or NO_REASON,
            evidence=evidence,
        )
        notes = weight_notes(model, self._control.settings_of(model), body.route)
        return await self._apply_edit(edit, change, dry_run=body.dry_run, notes=notes)

    def _release_and_candidate(self, model: str, body: EditBody) -> tuple[ReleaseStatus, int]:
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

    async def _apply_edit(
        self, edit: Edit, change: RoutingChange, *, dry_run: bool, notes: Sequence[str] = ()
    ) -> Response:
        fleet, spread = self._control.fleet_routing, None
        if fleet is None:
            edited = await self._control.editor.apply(edit, dry_run=dry_run)
        else:
            edited, spread = await fleet.apply(edit, change, dry_run=dry_run)
        document: EditDocument = {
            "model": edit.model,
            "action": edit.action,
            "dry_run": dry_run,
            "difference": edited.difference,
            "decision": decision_document(edited.decision) if edited.decision else None,
            "on_disk": self._control.decision_log.on_disk and self._control.acceptance.on_disk,
            "fleet": None if spread is None else spread_document(spread),
            "notes": list(notes),
        }
        return JsonResponse(document)

    def _file(self) -> str:
        return str(self._control.routing_file.path)
