"""Does what an alias of the registry asks for, or says why that has to wait."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.control.proposal import Basis, VersionRefused
from gateway.control.registry.fetching import Fetching
from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.step import Aliases, Here, Step, challenger_step, champion_step
from gateway.control.registry.versions import RegistryVersions
from gateway.errors import RegistryError, RequestError
from gateway.registry.mlflow_client import MlflowClient

log: Final = logging.getLogger("gateway.control.registry")


@dataclass(frozen=True, slots=True)
class Obeying:
    """`champion_follows`: whether any champion becomes stable. `may_act`: whether this host follows the registry still
    as far as the model is concerned, for the hosts of its fleet.
    """

    client: MlflowClient
    versions: RegistryVersions
    memory: RegistryMemory
    fetching: Fetching
    champion_follows: bool
    may_act: Callable[[str], bool]

    async def champion(self, model: str, memory: ModelMemory, aliases: Aliases, here: Here, stops: int) -> str:
        """Do what the champion asks for. Returns why that has to wait, or an empty text."""
        step, version = champion_step(memory, aliases, here, follow=self.champion_follows), aliases.champion
        if not self.may_act(model):
            return ""
        if step is Step.BRING:
            assert version is not None
            basis = Basis(here.stable, here.candidate, stops)
            return self.fetching.begin(model, memory, version, basis, replace=False, as_stable=True)
        if step is Step.PROMOTE:
            assert version is not None
            try:
                there = await self.client.version(memory.registered, version)
                if not await self.versions.is_it(model, there, memory):
                    raise VersionRefused(f"version {version} in the registry is another than the candidate")
                if not self.may_act(model):
                    return ""
                await self.versions.promote(model, there)
            except VersionRefused as error:
                memory.refused, memory.why = version, f"champion is not obeyed: {error}"
                log.warning("'%s': %s", model, memory.why)
            except (RequestError, RegistryError) as error:  # tried again at the next poll
                return f"champion was moved to version {version}, which is not promoted: {error}"
        if step in (Step.DEALT_WITH, Step.PROMOTE):
            memory.champion = version
            self.memory.save()
        return ""

    async def challenger(self, model: str, memory: ModelMemory, aliases: Aliases, here: Here, stops: int) -> str:
        """Do what the challenger asks for. Returns why that has to wait, or an empty text."""
        version = aliases.challenger
        if version != memory.asked:
            return ""  # it has just been moved: the next poll says since when
        moved = version != memory.challenger
        own = moved and await self.versions.came_from(model, here.candidate, memory.registered)
        step = challenger_step(memory, aliases, here, own_candidate=own)
        if not self.may_act(model):
            return ""
        if step is Step.BRING:
            assert version is not None
            basis = Basis(here.stable, here.candidate, stops)
            return self.fetching.begin(model, memory, version, basis, replace=own, as_stable=False)
        if step is Step.WAIT:
            return (
                f"challenger is version {version}, which waits: candidate {here.candidate} is under way, and did not"
                " come from the registry"
            )
        if step is Step.TOO_LATE:
            too_late(memory, version, here)
        if step in (Step.DEALT_WITH, Step.TOO_LATE):
            memory.challenger = version
            self.memory.save()
        return ""


def too_late(memory: ModelMemory, version: int | None, here: Here) -> None:
    """Remember why a challenger is not brought that was seen before the candidate was stopped."""
    memory.refused = version
    memory.why = (
        f"challenger was moved to version {version} before candidate {here.candidate} was stopped, so it is not"
        " brought; take the alias away and set it again, or run gateway propose"
    )
