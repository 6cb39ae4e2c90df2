"""Tells the registry which version became stable here, by moving its alias `champion`."""

import logging
from dataclasses import dataclass
from typing import Final

from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.step import CHALLENGER, CHAMPION, Aliases, Here, Move, aliases_of, move_step
from gateway.control.registry.versions import RegistryVersions
from gateway.errors import RegistryNotFound
from gateway.registry.mlflow_client import MlflowClient

log: Final = logging.getLogger("gateway.control.registry")


@dataclass(frozen=True, slots=True)
class ChampionMove:
    """Moves it, unless somebody has moved it meanwhile: people and other hosts write the same aliases."""

    client: MlflowClient
    versions: RegistryVersions
    memory: RegistryMemory

    async def note(self, model: str, memory: ModelMemory, here: Here) -> None:
        """Note a change of the stable version here, of which the registry is to be told. Raises OSError."""
        if here.stable == memory.stable:
            return
        told = here.stable in memory.agreed or await self.versions.came_from(model, here.stable, memory.registered)
        memory.move_to, memory.move_from = (here.stable, memory.champion) if told else (None, None)
        memory.stable = here.stable
        self.memory.save()

    def note_told(self, memory: ModelMemory, aliases: Aliases, here: Here, *, dealt_with: bool) -> None:
        """Note what another host has told the registry, by the aliases as that has read them. `dealt_with`: that has
        the same stable version, and nothing to tell of it any more: what champion says now, somebody has said since.
        """
        step = move_step(memory, aliases, here)
        told = dealt_with or aliases.champion == memory.move_to
        if step is Move.GIVE_UP or (step is Move.TELL and told):
            memory.move_to = memory.move_from = None
            self.memory.save()

    async def tell(self, model: str, memory: ModelMemory, aliases: Aliases, here: Here) -> Aliases:
        """Move the champion to the version that became stable here; returns the aliases after it. Raises RegistryError,
        OSError.
        """
        await self.note(model, memory, here)
        step = move_step(memory, aliases, here)
        if step is Move.NOTHING:
            return aliases
        if step is Move.TELL:
            try:
                aliases = await self._moved(model, memory, here)
            except RegistryNotFound as error:
                log.warning("the champion of '%s' cannot be moved to version %d: %s", model, here.stable, error)
        memory.move_to = memory.move_from = None
        self.memory.save()
        return aliases

    async def _moved(self, model: str, memory: ModelMemory, here: Here) -> Aliases:
        """Each alias is read directly before it is written."""
        name, stable = memory.registered, here.stable
        known = stable in memory.agreed or await self.versions.is_same(model, await self.client.version(name, stable))
        now = await self._read(name)
        if not known:
            log.warning("'%s': version %d in the registry is another, so champion is not moved to it", model, stable)
        if not known or move_step(memory, now, here) is not Move.TELL:
            return now
        if now.champion != stable:
            await self.client.set_alias(name, CHAMPION, stable)
            log.info("the champion of '%s' is version %d in the registry, too", model, stable)
            now = await self._read(name)
        memory.champion = stable
        if now.challenger == stable:
            await self.client.delete_alias(name, CHALLENGER)
            now = Aliases(now.champion, None)
        memory.challenger = None if memory.challenger == stable else memory.challenger
        return now

    async def _read(self, registered: str) -> Aliases:
        return aliases_of(await self.client.aliases(registered))
