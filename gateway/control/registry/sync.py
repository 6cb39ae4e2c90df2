"""Follows the aliases of the model registry, and tells it of promotions and stops. Runs on control's loop.

In a fleet one host does so, and the others what `follower` says. Nothing in the gateway waits for the registry: while
it does not answer, all stays as it is, and what it is to be told is told later. All is decided by `step`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Final

from gateway.control.control_plane import ControlPlane
from gateway.control.metrics.registry_metrics import RegistryModel, RegistryStatus
from gateway.control.registry.champion_move import ChampionMove
from gateway.control.registry.fetching import Fetching
from gateway.control.registry.follower import Follower
from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.news import RegistryNews, news_of_model
from gateway.control.registry.obeying import Obeying
from gateway.control.registry.poll_clock import PollClock
from gateway.control.registry.step import Aliases, Here, aliases_of, first_memory, note_of
from gateway.control.registry.stop_tags import StopTags
from gateway.control.registry.takeover import NOT_YET, Takeover
from gateway.control.registry.versions import RegistryVersions
from gateway.errors import GatewayError, RegistryError, RegistrySilent, RegistryUnavailable
from gateway.registry.mlflow_client import MlflowClient
from gateway.system.background_tasks import retry_forever

TICK_S: Final = 0.5
NO_ALIASES: Final = Aliases(None, None)
log: Final = logging.getLogger("gateway.control.registry")


class RegistrySync:
    """`poll_s`: how often the aliases are read. `champion_follows`: whether any champion becomes stable."""

    def __init__(
        self,
        control: ControlPlane,
        client: MlflowClient,
        versions: RegistryVersions,
        tags: StopTags,
        memory: RegistryMemory,
        takeover: Takeover,
        *,
        poll_s: float,
        champion_follows: bool,
    ) -> None:
        self._control = control
        self._client = client
        self._takeover = takeover
        self._lead = takeover.lead
        self._tags = tags
        self._memory = memory
        self._champion = ChampionMove(client, versions, memory)
        self._fetching = Fetching(client, versions, memory, self._seen_now, self._brought)
        self._obeying = Obeying(client, versions, memory, self._fetching, champion_follows, takeover.acts)
        log, counts = control.decision_log, control.decision_log.counts
        self._follower = Follower(
            versions, memory, self._champion, self._fetching, champion_follows,
            lambda model: counts[model, "stop"], lambda: log.last_sequence,
        )  # fmt: skip
        self._champion_follows = champion_follows
        self._clock = PollClock(poll_s)
        self._acted: frozenset[str] = frozenset()  # of which models this host has asked the registry with the last tick
        self._asks = 0
        self._seen: dict[str, Aliases] = {}
        self._waiting: dict[str, str] = {}  # by model: why an alias is not obeyed yet, or something not told
        self._models: dict[str, RegistryModel] = {}
        self._not_before_s: dict[str, float] = {}
        self._unanswered = ""
        self._status = RegistryStatus(client.http.url)

    async def run_forever(self) -> None:
        """Follow the registry, until cancelled. It ends a fetch under way; the next start removes what that leaves."""
        leading = asyncio.create_task(retry_forever("following the registry for the fleet", self._lead.run_forever))
        try:
            while True:
                await self.tick()
                await asyncio.sleep(TICK_S)
        finally:
            self._fetching.cancel()
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            await self._client.close()
            await self._lead.close()

    def hint(self) -> None:
        """Poll soon, on whichever host does: something may have changed there."""
        if self._lead.leads:
            self._clock.hint()
        else:
            self._lead.ask()

    async def tick(self) -> None:
        """Ask the registry if a poll is due, or if it is to be told something; or follow the host that does."""
        bound = {model: one.registry for model, one in self._control.served.items() if one.registry is not None}
        self._tags.refresh()
        for model in self._models.keys() - bound.keys():
            del self._models[model]
            self._seen.pop(model, None)
            self._waiting.pop(model, None)
        self._takeover.begin()
        theirs = {model: name for model, name in bound.items() if not self._takeover.acts(model)}
        self._acted &= bound.keys() - theirs.keys()
        if theirs or not self._lead.leads:
            await self._follow(theirs)
        if own := {model: name for model, name in bound.items() if self._takeover.acts(model)}:
            await self._ask(own)
        self._publish()
        if self._lead.in_contact and any(map(self._takeover.acts, bound)):
            self._lead.say(self._news(bound))

    async def _ask(self, bound: Mapping[str, str]) -> None:
        now_s = asyncio.get_running_loop().time()
        if new := bound.keys() - self._acted:
            self._clock.begin_anew()
            for model in new:
                self._waiting.pop(model, None)
            self._acted |= new
        elif self._lead.asks != self._asks:
            self._clock.hint()
        self._asks = self._lead.asks
        if self._clock.may_ask(now_s):
            polls = self._clock.polls(now_s)
            due = {model: name for model, name in bound.items() if polls or self._has_news(model, name, now_s)}
            await self._exchange_all(due, polls)
        if any(self._waiting.values()):
            self._clock.waits(now_s)
        for model, registered in bound.items():
            if model not in self._models or self._pending(model, registered):
                self._show(model, registered)

    async def _follow(self, bound: Mapping[str, str]) -> None:
        """Do what is left to a host while another one asks, or before it asks itself; nothing without contact."""
        found = self._lead.news()
        turns = {model: self._takeover.takes_over(model) for model in bound}
        self._status = replace(self._status, error=found.error, answered_s=found.answered_s)
        for model, registered in bound.items():
            news, here = found.models.get(model), self._here(model)
            if news is None or here is None or news.registered != registered:
                self._takeover.followed(model, turns[model])
                self._seen.pop(model, None)
                self._waiting.pop(model, None)
                self._show(model, registered)
                continue
            self._seen[model] = news.aliases
            try:
                takes_over = turns[model] is not None
                why = await self._follower.follow(model, registered, news, here, takes_over=takes_over)
                self._wait(model, why)
                self._takeover.followed(model, turns[model])
            except OSError as error:
                self._wait(model, str(error))
            self._show(model, registered)
            await self._control.command_priority.yield_to_commands()

    def _news(self, bound: Mapping[str, str]) -> RegistryNews:
        """What the other hosts are to know."""
        models, said = {}, self._lead.news().models
        for model, registered in bound.items():
            seen, here, memory = self._seen.get(model), self._here(model), self._memory.of(model, registered)
            shown = self._models.get(model)
            if not self._takeover.acts(model):
                if model in said:
                    models[model] = self._takeover.noted(model, said[model])
            elif seen is not None and here is not None and memory is not None and shown is not None:
                models[model] = self._takeover.noted(model, news_of_model(memory, seen, here, shown))
        return RegistryNews(self._status.error, self._status.answered_s, models)

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
                self._not_before_s[model] = loop.time() + self._clock.retry_s
                if silent:
                    self._unanswered = model
                    break
                self._wait(model, problem)
            self._show(model, due[model])
            await self._control.command_priority.yield_to_commands()
        if answered:
            if self._status.error:
                log.info("the registry at %s answers again", self._status.url)
            self._clock.answered()
            self._status = replace(self._status, error="", answered_s=time.time())
        elif silent or (polls and due):
            self._clock.missed(loop.time())
            if problem != self._status.error:
                log.warning("the registry does not answer; all stays as it is, and it is asked again: %s", problem)
            self._status = replace(self._status, error=problem)

    async def _sync(self, model: str, registered: str) -> None:
        decisions = self._control.decision_log
        asked_at, stops = decisions.last_sequence, decisions.counts[model, "stop"]  # a stop from now on holds it back
        aliases, here = aliases_of(await self._client.aliases(registered)), self._here(model)
        if here is None or not self._takeover.acts(model):
            return
        self._seen[model] = aliases
        memory = self._memory.of(model, registered)
        if memory is None:
            memory = first_memory(registered, aliases, here, follow=self._champion_follows)
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
        waiting.append(await self._obeying.champion(model, memory, aliases, here, stops))
        here = self._here(model) or here
        waiting.append(await self._obeying.challenger(model, memory, aliases, here, stops))
        self._wait(model, "; ".join(filter(None, waiting)))

    async def _told(self, model: str, telling: Awaitable[None]) -> str:
        """Why the registry cannot be told, or an empty text: what its aliases ask for is done all the same."""
        try:
            await telling
        except RegistryError as error:
            self._not_before_s[model] = asyncio.get_running_loop().time() + self._clock.retry_s
            self._status = replace(self._status, errors=self._status.errors + 1)
            return str(error)
        return ""

    async def _tell_champion(self, model: str, memory: ModelMemory, aliases: Aliases) -> None:
        if here := self._here(model):
            self._seen[model] = await self._champion.tell(model, memory, aliases, here)

    def _wait(self, model: str, why: str) -> None:
        if why and self._waiting.get(model) != why:
            log.warning("'%s': %s", model, why)
        self._waiting[model] = why

    def _here(self, model: str) -> Here | None:
        release = self._control.served.get(model)
        self._tags.refresh()
        return None if release is None else Here(release.stable, release.candidate, self._tags.stops(model))

    def _seen_now(self, model: str, registered: str) -> Aliases:
        """None once the model is not bound to that name any more, or nothing is obeyed here. From any thread."""
        release = self._control.served.get(model)
        bound = release is not None and release.registry == registered and self._lead.in_contact
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
        return memory.is_to_tell(release.stable) + self._tags.pending(model, memory)

    def _show(self, model: str, registered: str) -> None:
        seen, here, memory = self._seen.get(model), self._here(model), self._memory.of(model, registered)
        waiting = self._fetching.said.get(model, "") or self._waiting.get(model, "")
        if seen is None or here is None:
            elsewhere = self._takeover.elsewhere(model)
            self._models[model] = RegistryModel(registered, note=waiting, problem=bool(waiting), elsewhere=elsewhere)
            return
        note, problem = note_of(memory, seen, here, waiting)
        news = None if self._takeover.acts(model) else self._lead.news().models.get(model)
        pending = self._pending(model, registered) if news is None else news.pending
        if news is not None and not note:
            note, problem = news.note, news.problem
        self._models[model] = RegistryModel(
            registered, seen.champion, seen.challenger, note, problem, pending, self._takeover.elsewhere(model)
        )

    def _brought(self, model: str, registered: str) -> None:
        """A version has been brought, or could not be: another one may wait for that."""
        self._show(model, registered)
        self._clock.hint()

    def _publish(self) -> None:
        elsewhere = self._lead.elsewhere() or ("" if self._acted or not self._models else NOT_YET)
        followed = self._lead.followed and not any(map(self._takeover.neglects, self._models))
        status = replace(self._status, elsewhere=elsewhere, followed=followed)
        if (self._status, self._status.models) != (status, self._models):
            self._status = replace(status, models=dict(self._models))
        self._control.registry = self._status
