"""Brings versions of the registry into the repository, by the same steps as a proposal by hand."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, Final

from gateway.control.config.editor import Edit
from gateway.control.config.yaml_candidate import RAMP, Weight
from gateway.control.config.yaml_edit import PROMOTE, RoutingChange
from gateway.control.control_plane import ControlPlane
from gateway.control.proposals.pace import Pace
from gateway.control.propose import AcceptedProposal, Proposal, Proposals, VersionRefused
from gateway.control.release.disk import DiskThread
from gateway.control.release.known_effects import known_record
from gateway.control.status import release_status
from gateway.errors import Conflict
from gateway.registry.mlflow_client import MlflowClient, ModelVersion
from gateway.registry.origin import Origin, read_origin
from gateway.registry.version_archive import REGISTRY, origin_of, version_archive
from gateway.settings.units import PPM

PIECE_BYTES: Final = 1 << 20  # written at a time
PERCENT_PPM: Final = PPM // 100


class RegistryVersions:
    """`weight`: of a new candidate's route, see `name_candidate`, in ppm. Runs on control's loop."""

    def __init__(
        self, control: ControlPlane, proposals: Proposals, client: MlflowClient, weight: int | str | None
    ) -> None:
        self._control = control
        self._proposals = proposals
        self._client = client
        self._disk = DiskThread("registry")
        self._weight: Weight | None = weight if weight in (None, RAMP) else int(weight) / PERCENT_PPM

    async def came_from(self, model: str, version: int | None, registered: str) -> bool:
        """Whether the version here is that of the same number in the registry. Raises OSError."""
        if version is None:
            return False
        origin = await self._origin(model, version)
        return origin is not None and origin.names(REGISTRY, registered, version)

    async def is_same(self, model: str, there: ModelVersion) -> bool:
        """Whether the version here is that of the registry. Raises OSError."""
        return origin_of(there, "").same_version(await self._origin(model, there.version))

    async def bring(
        self, model: str, there: ModelVersion, wanted: Callable[[], str], *, replace: bool, as_stable: bool
    ) -> AcceptedProposal:
        """Fetch the version unless it is here, try it, and name it. `wanted`: why it is not wanted any more, empty as
        long as it is. Raises VersionRefused, RegistryError and the errors of a proposal.
        """
        alias = "champion" if as_stable else "challenger"
        is_there = await self._disk.run(os.path.lexists, self._control.repository.path / model / str(there.version))
        if is_there and not await self.is_same(model, there):
            raise VersionRefused(
                f"version {there.version} of '{model}' is in the repository already, and is not the registry's; move it"
                " to a number that the registry does not use"
            )
        ask = Proposal(
            model=model,
            version=there.version,
            weight=self._weight,
            replace=replace,
            by=REGISTRY,
            reason=f"{alias} of '{there.model}' is version {there.version} in the registry",
            evidence=self._evidence(there),
            as_stable=as_stable,
        )
        if is_there:
            return await self._proposals.propose(ask, None)
        async with contextlib.aclosing(self._pieces(there, wanted)) as pieces:
            first = await anext(pieces)  # before the proposal begins: a slow registry must not block others
            return await self._proposals.propose(ask, _chained(first, pieces))

    async def promote(self, model: str, there: ModelVersion) -> None:
        """Make the candidate stable, in a fleet on all hosts. Raises Conflict."""
        control = self._control
        control.acceptance.refuse_if_closed(model, control.routing_file.status.candidates_closed)
        seen = release_status(control, model)
        if seen.candidate != there.version:
            raise Conflict(f"the candidate of '{model}' is not version {there.version} any more")
        change = RoutingChange(PROMOTE, model, versions=(seen.stable, there.version))
        edit = Edit(
            model=model,
            candidate=there.version,
            action=change.action,
            make=partial(change.made, source=str(control.routing_file.path)),
            by=REGISTRY,
            reason=f"champion of '{there.model}' was moved to version {there.version} in the registry",
            evidence=self._evidence(there) | {"stable_before": seen.stable} | known_record(seen.effects),
        )
        if control.fleet_routing is None:
            await control.editor.apply(edit, dry_run=False)
        else:
            await control.fleet_routing.apply(edit, change, dry_run=False)

    async def _origin(self, model: str, version: int) -> Origin | None:
        return await self._disk.run(read_origin, self._control.repository.path / model / str(version))

    def _evidence(self, there: ModelVersion) -> dict[str, Any]:
        return {
            "registry": self._client.http.url,
            "registered_model": there.model,
            "registered_version": there.version,
            "run_id": there.run_id,
            "source": there.source,
        }

    async def _pieces(self, there: ModelVersion, wanted: Callable[[], str]) -> AsyncGenerator[bytes, None]:
        """The archive in pieces of about PIECE_BYTES. Lets orders go first."""
        pace, piece = Pace(), bytearray()
        async with contextlib.aclosing(version_archive(self._client, there, self._control.max_proposal)) as archive:
            async for chunk in archive:
                piece += chunk
                await pace.after(len(chunk))
                if len(piece) < PIECE_BYTES:
                    continue
                if why := wanted():
                    raise Conflict(why)
                await self._control.command_priority.yield_to_commands()
                yield bytes(piece)
                piece.clear()
        await asyncio.sleep(0)
        yield bytes(piece)


async def _chained(first: bytes, others: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for piece in others:
        yield piece
