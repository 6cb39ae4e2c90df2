"""Brings versions of the registry into the repository, by the same steps as a proposal by hand."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

from gateway.control.config.editor import Edit
from gateway.control.config.yaml_candidate import RAMP, Weight
from gateway.control.config.yaml_edit import PROMOTE, RoutingChange
from gateway.control.control_plane import ControlPlane
from gateway.control.proposal import AcceptedProposal, Basis, Proposal, VersionRefused
from gateway.control.propose import DISK_TIMEOUT_S, Proposals
from gateway.control.registry.fetched_archive import fetched
from gateway.control.registry.memory import ModelMemory
from gateway.control.release.disk import DiskThread
from gateway.control.release.known_effects import known_record
from gateway.control.status import release_status
from gateway.errors import Conflict
from gateway.registry.mlflow_client import MlflowClient, ModelVersion
from gateway.registry.origin import Origin, read_origin
from gateway.registry.version_archive import REGISTRY, origin_of, version_archive
from gateway.settings.units import PPM

TURN_S: Final = 0.2  # between two looks at whether another proposal is over
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
        self._fetch_disk = DiskThread("fetches", DISK_TIMEOUT_S)
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

    async def is_it(self, model: str, there: ModelVersion, memory: ModelMemory) -> bool:
        """The same; of one that was put here by hand: whether it was stable here and champion there at one time."""
        origin = await self._origin(model, there.version)
        return there.version in memory.agreed if origin is None else origin_of(there, "").same_version(origin)

    async def refuse_stopped(self, model: str, there: ModelVersion) -> None:
        """Raise VersionRefused if the version is here under another number, too, and stopped there. Raises OSError."""
        stopped = self._control.decision_log.stopped_keys()
        for version in sorted(version for name, version in stopped if name == model):
            origin = await self._origin(model, version)
            if origin is not None and origin.names(REGISTRY, there.model, there.version):
                raise VersionRefused(
                    f"version {there.version} of '{there.model}' was stopped here, as version {version}; to bring it"
                    f" back, name candidate {version} in the routing file and resume it"
                )

    async def bring(
        self,
        model: str,
        there: ModelVersion,
        memory: ModelMemory,
        basis: Basis,
        unwanted: Callable[[], str],
        *,
        replace: bool,
        as_stable: bool,
    ) -> AcceptedProposal:
        """Fetch the version unless it is here, try it, and name it. `basis`, `unwanted`: see `Proposal`. Raises
        VersionRefused, RegistryError and the errors of a proposal.
        """
        alias = "champion" if as_stable else "challenger"
        is_there = await self._disk.run(os.path.lexists, self._control.repository.path / model / str(there.version))
        if is_there and not await self.is_it(model, there, memory):
            raise VersionRefused(
                f"version {there.version} of '{model}' is in the repository already, and is not the registry's; move it"
                " to a number that the registry does not use"
            )
        await self.refuse_stopped(model, there)
        ask = Proposal(
            model=model,
            version=there.version,
            weight=self._weight,
            replace=replace,
            by=REGISTRY,
            reason=f"{alias} of '{there.model}' is version {there.version} in the registry",
            evidence=self._evidence(there),
            as_stable=as_stable,
            basis=basis,
            unwanted=unwanted,
        )
        if is_there:
            return await self._propose(ask, None)
        archive = version_archive(self._client, there, self._control.max_proposal)
        folder, priority = self._control.repository.path, self._control.command_priority
        async with fetched(archive, folder, self._fetch_disk, priority, unwanted) as pieces:
            return await self._propose(ask, pieces)

    async def _propose(self, ask: Proposal, archive: AsyncIterator[bytes] | None) -> AcceptedProposal:
        """A person's proposal goes first; what has been fetched waits for it."""
        while self._proposals.under_way:
            if why := ask.unwanted():
                raise Conflict(why)
            await asyncio.sleep(TURN_S)
        return await self._proposals.propose(ask, archive)

    async def promote(self, model: str, there: ModelVersion) -> None:
        """Make the candidate stable, in a fleet on all hosts. Raises Conflict, VersionRefused, OSError."""
        await self.refuse_stopped(model, there)
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
