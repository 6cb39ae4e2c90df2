"""What a host of a fleet does while another one follows the registry: it fetches what is in force there, and remembers.

So each host has the files, and any of them can go on where the other one ended. It asks the registry for files alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.control.proposal import Basis
from gateway.control.registry.champion_move import ChampionMove
from gateway.control.registry.fetching import Fetching
from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.news import ModelNews, adopt
from gateway.control.registry.obeying import too_late
from gateway.control.registry.step import Here, Step, challenger_step, champion_step, first_memory, followed
from gateway.control.registry.versions import RegistryVersions


@dataclass(frozen=True, slots=True)
class Follower:
    """`champion_follows`: whether any champion becomes stable. `stops_so_far`: of a model's candidates, and
    `last_sequence`: of all decisions here.
    """

    versions: RegistryVersions
    memory: RegistryMemory
    champion: ChampionMove
    fetching: Fetching
    champion_follows: bool
    stops_so_far: Callable[[str], int]
    last_sequence: Callable[[], int]

    async def follow(
        self, model: str, registered: str, news: ModelNews, here: Here, *, takes_over: bool = False
    ) -> str:
        """Act on what the other host says of the model. Returns why something has to wait, or an empty text. Raises
        OSError. `takes_over`: that host has ended, and this one may have been away for long: a challenger that it
        learns of only now waits since before any stop that the other one has not dealt with.
        """
        stops, asked_at = self.stops_so_far(model), self.last_sequence()
        memory = self.memory.of(model, registered)
        new = memory is None
        if memory is None:
            memory = first_memory(registered, news.aliases, here, follow=self.champion_follows)
            memory.champion = memory.champion if self.champion_follows else news.done_champion
            self.memory.add(model, memory)
        changed = adopt(memory, news, here.stops) or new
        if news.champion == here.stable:
            changed |= memory.agree(here.stable)
        if news.challenger != memory.asked:
            unseen = takes_over and here.candidate in here.stops and here.candidate not in news.tags
            memory.asked, memory.asked_at = news.challenger, 0 if unseen else asked_at
            changed = True
        if changed:
            self.memory.save()
        await self.champion.note(model, memory, here)
        dealt_with = news.stable == here.stable and not news.to_tell
        self.champion.note_told(memory, news.aliases, here, dealt_with=dealt_with)
        basis = Basis(here.stable, here.candidate, stops)
        waiting = self._follow_champion(model, memory, news, here, basis)
        return waiting or await self._follow_challenger(model, memory, news, here, basis)

    def _follow_champion(self, model: str, memory: ModelMemory, news: ModelNews, here: Here, basis: Basis) -> str:
        version = news.champion
        asked = champion_step(memory, news.aliases, here, follow=self.champion_follows)
        step = followed(asked, version, done=news.done_champion, in_force=news.stable)
        if step is Step.BRING:
            assert version is not None
            return self.fetching.begin(model, memory, version, basis, replace=False, as_stable=True)
        if step is Step.DEALT_WITH:
            memory.champion = version
            self._remember_refused(memory, news, version)
        return ""

    async def _follow_challenger(
        self, model: str, memory: ModelMemory, news: ModelNews, here: Here, basis: Basis
    ) -> str:
        version = news.challenger
        moved = version != memory.challenger
        own = moved and await self.versions.came_from(model, here.candidate, memory.registered)
        asked = challenger_step(memory, news.aliases, here, own_candidate=own)
        step = followed(asked, version, done=news.done_challenger, in_force=news.candidate)
        if step is Step.BRING:
            assert version is not None
            return self.fetching.begin(model, memory, version, basis, replace=own, as_stable=False)
        if step in (Step.DEALT_WITH, Step.TOO_LATE):
            memory.challenger = version
            if step is Step.TOO_LATE:
                too_late(memory, version, here)
            self._remember_refused(memory, news, version)
        return ""

    def _remember_refused(self, memory: ModelMemory, news: ModelNews, version: int | None) -> None:
        if version is not None and news.refused == version:
            memory.refused, memory.why = news.refused, news.why
        self.memory.save()
