"""Follows the aliases of the model registry, and tells it of promotions and stops. Runs on control's loop.

Nothing in the gateway waits for the registry: while it does not answer, all stays as it is, and what it is to be told
is told later. What is to be done is decided by `step`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Final

from gateway.control.control_plane import ControlPlane
from gateway.control.metrics.registry_metrics import RegistryModel, RegistryStatus
from gateway.control.proposal import Basis, VersionRefused
from gateway.control.registry.champion_move import ChampionMove
from gateway.control.registry.fetching import Fetching
from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.step import (
    Aliases,
    Here,
    Step,
    aliases_of,
    challenger_step,
    champion_step,
    first_memory,
    note_of,
)
from gateway.control.registry.stop_tags import StopTags
from gateway.control.registry.versions import RegistryVersions
from gateway.errors import GatewayError, RegistryError, RegistrySilent, RegistryUnavailable, RequestError
from gateway.registry.mlflow_client import MlflowClient

TICK_S: Final = 0.5
MOST_MISSED: Final = 6  # polls, between two calls to a registry that does not answer
NO_ALIASES: Final = Aliases(None, None)
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
        self._champion = ChampionMove(client, versions, memory)
        self._fetching = Fetching(client, versions, memory, self._seen_now, self._show)
        self._poll_s = poll_s
        self._follow = follow
        self._seen: dict[str, Aliases] = {}
        self._waiting: dict[str, str] = {}  # by model: why an alias is not obeyed yet, or something not told
        self._models: dict[str, RegistryModel] = {}
        self._poll_due_s = self._next_s = 0.0
        self._not_before_s: dict[str, float] = {}
        self._missed = 0
        self._unanswered = ""
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
        if now_s >= self._next_s:
            polls = now_s >= self._poll_due_s
            if polls:
                self._poll_due_s = now_s + self._poll_s
            due = {model: name for model, name in bound.items() if polls or self._has_news(model, name, now_s)}
            await self._exchange_all(due, polls)
        for model in self._models.keys() - bound.keys():
            del self._models[model]
            self._seen.pop(model, None)
        for model, registered in bound.items():
            if model not in self._models or self._pending(model, registered):
                self._show(model, registered)
        self._publish()

    async def _exchange_all(self, due: Mapping[str, str], polls: bool) -> None:
        """One exchange about each; the model whose call was not answered last comes last: others must not miss theirs.
        A registry that is silent, or answers about none as it should, is away.
        """
        loop, answered, problem, silent = asyncio.get_running_loop(), False, "", False
        for model in sorted(due, key=lambda model: model == self._unanswered):
            try:
                await self._sync(model, due[model])
                answered = True
            except (GatewayError, OSError) as error:
                answered = answered or not isinstance(error, RegistryUnavailable)
                silent, problem = isinstance(error, RegistrySilent), str(error)
                self._status = replace(self._status, errors=self._status.errors + 1)
                self._not_before_s[model] = loop.time() + self._poll_s
                if silent:
                    self._unanswered = model
                    break
                self._wait(model, problem)
            self._show(model, due[model])
            await self._control.command_priority.yield_to_commands()
        if answered:
            if self._status.error:
                log.info("the registry at %s answers again", self._status.url)
            self._missed = 0
            self._status = replace(self._status, error="", answered_s=time.time())
        elif silent or (polls and due):
            self._missed = min(self._missed + 1, MOST_MISSED)
            self._next_s = loop.time() + self._poll_s * self._missed
            if problem != self._status.error:
                log.warning("the registry does not answer; all stays as it is, and it is asked again: %s", problem)
            self._status = replace(self._status, error=problem)

    async def _sync(self, model: str, registered: str) -> None:
        decisions = self._control.decision_log
        asked_at, stops = decisions.last_sequence, decisions.counts[model, "stop"]  # a stop from now on holds it back
        aliases, here = aliases_of(await self._client.aliases(registered)), self._here(model)
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
        if aliases.challenger != memory.asked:
            memory.asked, memory.asked_at = aliases.challenger, asked_at
            self._memory.save()
        waiting = [await self._told(model, self._tags.tell(model, memory))]
        if not (model in self._fetching.said and self._fetching.as_stable):  # what is not dealt with yet is not told
            waiting.append(await self._told(model, self._tell_champion(model, memory, aliases)))
            aliases = self._seen[model]
        here = self._here(model) or here
        waiting.append(await self._obey_champion(model, memory, aliases, here, stops))
        here = self._here(model) or here
        waiting.append(await self._obey_challenger(model, memory, aliases, here, stops))
        self._wait(model, "; ".join(filter(None, waiting)))

    async def _told(self, model: str, telling: Awaitable[None]) -> str:
        """Why the registry cannot be told, or an empty text: what its aliases ask for is done all the same."""
        try:
            await telling
        except RegistryError as error:
            self._not_before_s[model] = asyncio.get_running_loop().time() + self._poll_s
            self._status = replace(self._status, errors=self._status.errors + 1)
            return str(error)
        return ""

    async def _tell_champion(self, model: str, memory: ModelMemory, aliases: Aliases) -> None:
        if here := self._here(model):
            self._seen[model] = await self._champion.tell(model, memory, aliases, here)

    async def _obey_champion(self, model: str, memory: ModelMemory, aliases: Aliases, here: Here, stops: int) -> str:
        """Do what the champion asks for. Returns why that has to wait, or an empty text."""
        step, version = champion_step(memory, aliases, here, follow=self._follow), aliases.champion
        if step is Step.BRING:
            assert version is not None
            basis = Basis(here.stable, here.candidate, stops)
            return self._fetching.begin(model, memory, version, basis, replace=False, as_stable=True)
        if step is Step.PROMOTE:
            assert version is not None
            try:
                there = await self._client.version(memory.registered, version)
                if not await self._versions.is_it(model, there, memory):
                    raise VersionRefused(f"version {version} in the registry is another than the candidate")
                await self._versions.promote(model, there)
            except VersionRefused as error:
                memory.refused, memory.why = version, f"champion is not obeyed: {error}"
                log.warning("'%s': %s", model, memory.why)
            except (RequestError, RegistryError) as error:  # tried again at the next poll
                return f"champion was moved to version {version}, which is not promoted: {error}"
        if step in (Step.DEALT_WITH, Step.PROMOTE):
            memory.champion = version
            self._memory.save()
        return ""

    async def _obey_challenger(self, model: str, memory: ModelMemory, aliases: Aliases, here: Here, stops: int) -> str:
        """Do what the challenger asks for. Returns why that has to wait, or an empty text."""
        version = aliases.challenger
        if version != memory.asked:
            return ""  # it has just been moved: the next poll says since when
        moved = version != memory.challenger
        own = moved and await self._versions.came_from(model, here.candidate, memory.registered)
        step = challenger_step(memory, aliases, here, own_candidate=own)
        if step is Step.BRING:
            assert version is not None
            basis = Basis(here.stable, here.candidate, stops)
            return self._fetching.begin(model, memory, version, basis, replace=own, as_stable=False)
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
        self._tags.refresh()
        return None if release is None else Here(release.stable, release.candidate, self._tags.stops(model))

    def _seen_now(self, model: str, registered: str) -> Aliases:
        """None once the model is not bound to that name any more. From any thread."""
        release = self._control.served.get(model)
        bound = release is not None and release.registry == registered
        return self._seen.get(model, NO_ALIASES) if bound else NO_ALIASES

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
