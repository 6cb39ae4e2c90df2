"""Follows the aliases of the model registry, and tells it of promotions and stops. Runs on control's loop.

Nothing in the gateway waits for the registry: while it does not answer, all stays as it is, and what it is to be told
is told later. What is to be done is decided by `step`.
"""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Final

from gateway.control.control_plane import ControlPlane
from gateway.control.metrics.registry_metrics import RegistryModel, RegistryStatus
from gateway.control.registry.fetching import Fetching
from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.step import (
    Aliases,
    Here,
    Move,
    Step,
    challenger_step,
    champion_step,
    first_memory,
    move_step,
    note_of,
)
from gateway.control.registry.stop_tags import StopTags
from gateway.control.registry.versions import RegistryVersions
from gateway.errors import GatewayError, RegistryError, RegistryNotFound, RegistryUnavailable
from gateway.registry.mlflow_client import MlflowClient

TICK_S: Final = 0.5
MOST_MISSED: Final = 6  # polls, between two calls to a registry that does not answer
CHAMPION, CHALLENGER = "champion", "challenger"
log: Final = logging.getLogger("gateway.control.registry")


class RegistrySync:
    """`poll_s`: how often the aliases are read. `follow`: whether any champion becomes stable."""

    def __init__(
        self,
        control: ControlPlane,
        client: MlflowClient,
        versions: RegistryVersions,
        tags: StopTags,
        memory: RegistryMemory,
        *,
        poll_s: float,
        follow: bool,
    ) -> None:
        self._control = control
        self._client = client
        self._versions = versions
        self._tags = tags
        self._memory = memory
        self._fetching = Fetching(client, versions, memory, self._seen_now, self._show)
        self._poll_s = poll_s
        self._follow = follow
        self._seen: dict[str, Aliases] = {}
        self._waiting: dict[str, str] = {}  # by model: why an alias is not obeyed yet, or something not told
        self._models: dict[str, RegistryModel] = {}
        self._poll_due_s = self._next_s = 0.0
        self._not_before_s: dict[str, float] = {}
        self._missed = 0
        self._status = RegistryStatus(client.http.url)

    async def run_forever(self) -> None:
        """Follow the registry, until cancelled. It ends a fetch under way; the next start removes what that leaves."""
        try:
            while True:
                await self.tick()
                await asyncio.sleep(TICK_S)
        finally:
            self._fetching.cancel()
            await self._client.close()

    async def tick(self) -> None:
        """Ask the registry if a poll is due, or if it is to be told something."""
        now_s = asyncio.get_running_loop().time()
        bound = {model: one.registry for model, one in self._control.served.items() if one.registry is not None}
        self._tags.refresh()
        polls = now_s >= self._poll_due_s
        if now_s >= self._next_s:
            if polls:
                self._poll_due_s = now_s + self._poll_s
            due = {model: name for model, name in bound.items() if polls or self._has_news(model, name, now_s)}
            for model, registered in due.items():
                if not await self._exchange(model, registered):
                    break
                await self._control.command_priority.yield_to_commands()
        for model in self._models.keys() - bound.keys():
            del self._models[model]
        for model, registered in bound.items():
            if model not in self._models or self._pending(model, registered):
                self._show(model, registered)
        self._publish()

    async def _exchange(self, model: str, registered: str) -> bool:
        """One exchange about a model; False if the registry does not answer."""
        loop = asyncio.get_running_loop()
        try:
            await self._sync(model, registered)
        except RegistryUnavailable as error:
            self._missed = min(self._missed + 1, MOST_MISSED)
            self._next_s = loop.time() + self._poll_s * self._missed
            if str(error) != self._status.error:
                log.warning("the registry does not answer; all stays as it is, and it is asked again: %s", error)
            self._status = replace(self._status, error=str(error), errors=self._status.errors + 1)
            return False
        except (GatewayError, OSError) as error:
            self._status = replace(self._status, errors=self._status.errors + 1)
            self._not_before_s[model] = loop.time() + self._poll_s
            self._wait(model, str(error))
        if self._status.error:
            log.info("the registry at %s answers again", self._status.url)
        self._missed = 0
        self._status = replace(self._status, error="", answered_s=time.time())
        self._show(model, registered)
        return True

    async def _sync(self, model: str, registered: str) -> None:
        found = await self._aliases(registered)
        self._tags.refresh()
        aliases, here = Aliases(found.get(CHAMPION), found.get(CHALLENGER)), self._here(model)
        if here is None:
            return
        self._seen[model] = aliases
        memory = self._memory.of(model, registered)
        if memory is None:
            memory = first_memory(registered, aliases, here, follow=self._follow)
            self._memory.add(model, memory)
            self._memory.save()
        if aliases.champion == here.stable and memory.agree(here.stable):
            self._memory.save()
        waiting = []
        try:
            await self._tags.tell(model, memory)
            aliases = await self._tell_champion(model, memory, aliases, here)
        except RegistryUnavailable:
            raise
        except RegistryError as error:  # it may be read, but not written to
            self._not_before_s[model] = asyncio.get_running_loop().time() + self._poll_s
            self._status = replace(self._status, errors=self._status.errors + 1)
            waiting.append(str(error))
        waiting.append(await self._obey_champion(model, memory, aliases, here))
        waiting.append(await self._obey_challenger(model, memory, aliases, self._here(model) or here))
        self._wait(model, "; ".join(filter(None, waiting)))

    async def _aliases(self, registered: str) -> dict[str, int]:
        """The aliases. Raises RegistryNotFound if there is no such model; whatever else is wrong counts as away."""
        try:
            return await self._client.aliases(registered)
        except RegistryNotFound:
            raise
        except RegistryError as error:
            raise RegistryUnavailable(str(error)) from None

    async def _tell_champion(self, model: str, memory: ModelMemory, aliases: Aliases, here: Here) -> Aliases:
        """Move the champion to the version that became stable here; returns the aliases after it."""
        if here.stable != memory.stable:
            agreed = here.stable in memory.agreed
            told = agreed or await self._versions.came_from(model, here.stable, memory.registered)
            memory.move_to, memory.move_from = (here.stable, memory.champion) if told else (None, None)
            memory.stable = here.stable
            self._memory.save()
        step = move_step(memory, aliases, here)
        if step is Move.NOTHING:
            return aliases
        if step is Move.TELL:
            try:
                if aliases.champion != here.stable:
                    await self._client.set_alias(memory.registered, CHAMPION, here.stable)
                if aliases.challenger == here.stable:
                    await self._client.delete_alias(memory.registered, CHALLENGER)
            except RegistryNotFound as error:
                log.warning("the champion of '%s' cannot be moved to version %d: %s", model, here.stable, error)
            else:
                log.info("the champion of '%s' is version %d in the registry, too", model, here.stable)
                challenger = None if aliases.challenger == here.stable else aliases.challenger
                aliases = self._seen[model] = Aliases(here.stable, challenger)
                memory.champion = here.stable
                memory.challenger = None if memory.challenger == here.stable else memory.challenger
        memory.move_to = memory.move_from = None
        self._memory.save()
        return aliases

    async def _obey_champion(self, model: str, memory: ModelMemory, aliases: Aliases, here: Here) -> str:
        """Do what the champion asks for. Returns why that has to wait, or an empty text."""
        step, version = champion_step(memory, aliases, here, follow=self._follow), aliases.champion
        if step is Step.BRING:
            assert version is not None
            return self._fetching.begin(model, memory, version, replace=False, as_stable=True)
        if step is Step.PROMOTE:
            assert version is not None
            there = await self._client.version(memory.registered, version)
            if await self._versions.is_same(model, there):
                try:
                    await self._versions.promote(model, there)
                except GatewayError as error:  # tried again at the next poll
                    return f"champion was moved to version {version}, which is not promoted: {error}"
            else:
                log.warning("'%s': champion was moved to version %d; the one here is another", model, version)
        if step in (Step.DEALT_WITH, Step.PROMOTE):
            memory.champion = version
            self._memory.save()
        return ""

    async def _obey_challenger(self, model: str, memory: ModelMemory, aliases: Aliases, here: Here) -> str:
        """Do what the challenger asks for. Returns why that has to wait, or an empty text."""
        version = aliases.challenger
        if version != memory.asked:
            memory.asked, memory.asked_at = version, self._control.decision_log.last_sequence
            self._memory.save()
        moved = version != memory.challenger
        own = moved and await self._versions.came_from(model, here.candidate, memory.registered)
        step = challenger_step(memory, aliases, here, own_candidate=own)
        if step is Step.BRING:
            assert version is not None
            return self._fetching.begin(model, memory, version, replace=own, as_stable=False)
        if step is Step.WAIT:
            return (
                f"challenger is version {version}, which waits: candidate {here.candidate} is under way, and did not"
                " come from the registry"
            )
        if step is Step.TOO_LATE:
            memory.refused = version
            memory.why = (
                f"challenger was moved to version {version} before candidate {here.candidate} was stopped, so it is not"
                " brought; take the alias away and set it again, or run gateway propose"
            )
        if step in (Step.DEALT_WITH, Step.TOO_LATE):
            memory.challenger = version
            self._memory.save()
        return ""

    def _wait(self, model: str, why: str) -> None:
        if why and self._waiting.get(model) != why:
            log.warning("'%s': %s", model, why)
        self._waiting[model] = why

    def _here(self, model: str) -> Here | None:
        release = self._control.served.get(model)
        return None if release is None else Here(release.stable, release.candidate, self._tags.stops(model))

    def _seen_now(self, model: str) -> Aliases:
        return self._seen.get(model, Aliases(None, None))

    def _has_news(self, model: str, registered: str, now_s: float) -> bool:
        """Whether the registry is to be told something, or has not been asked about the model yet."""
        unknown = self._memory.of(model, registered) is None
        return now_s >= self._not_before_s.get(model, 0.0) and (unknown or self._pending(model, registered) > 0)

    def _pending(self, model: str, registered: str) -> int:
        """How many changes here the registry does not have yet."""
        memory, release = self._memory.of(model, registered), self._control.served.get(model)
        if memory is None or release is None:
            return 0
        moved = release.stable != memory.stable or memory.move_to is not None
        return moved + self._tags.pending(model, memory)

    def _show(self, model: str, registered: str) -> None:
        seen, here, memory = self._seen.get(model), self._here(model), self._memory.of(model, registered)
        waiting = self._fetching.said.get(model, "") or self._waiting.get(model, "")
        if seen is None or here is None:
            self._models[model] = RegistryModel(registered, note=waiting, problem=bool(waiting))
            return
        note, problem = note_of(memory, seen, here, waiting)
        pending = self._pending(model, registered)
        self._models[model] = RegistryModel(registered, seen.champion, seen.challenger, note, problem, pending)

    def _publish(self) -> None:
        if self._status.models != self._models:
            self._status = replace(self._status, models=dict(self._models))
        self._control.registry = self._status
