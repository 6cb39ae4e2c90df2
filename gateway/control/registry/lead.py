"""Which host follows the registry: this one alone, or one for all hosts of a fleet."""

import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

from gateway.control.fleet.task_leader import TaskLeader
from gateway.control.registry.news import NO_NEWS, RegistryNews, document_of, news_of

log: Final = logging.getLogger("gateway.control.registry")


class Lead(Protocol):
    """`leads`: whether this host asks the registry, and acts, now. `in_contact`: whether anything is obeyed here, since
    all stops that a fleet has confirmed are known. `asks`: rises whenever another host has had a hint. `taken`: rises
    whenever this host takes the lead, or is told anew what others have found. `settled`: that is known. `followed`:
    some host leads.
    """

    @property
    def leads(self) -> bool: ...
    @property
    def in_contact(self) -> bool: ...
    @property
    def asks(self) -> int: ...
    @property
    def taken(self) -> int: ...
    @property
    def settled(self) -> bool: ...
    @property
    def followed(self) -> bool: ...

    def elsewhere(self) -> str:
        """Why this host does not ask the registry itself; empty if it does."""

    def news(self) -> RegistryNews:
        """What the host that does has found; only while this one is in contact."""

    def say(self, news: RegistryNews) -> None:
        """Tell the others, as that host."""

    def ask(self) -> None:
        """Pass on a hint to that host."""

    async def run_forever(self) -> None:
        """Find out which host it is, until cancelled."""

    async def close(self) -> None:
        """Close what is open."""


class Alone:
    """Without a fleet."""

    leads = in_contact = settled = followed = True
    asks = taken = 0

    def elsewhere(self) -> str:
        return ""

    def news(self) -> RegistryNews:
        return NO_NEWS

    def say(self, news: RegistryNews) -> None:
        pass

    def ask(self) -> None:
        pass

    async def run_forever(self) -> None:
        pass

    async def close(self) -> None:
        pass


class FleetLead:
    """In a fleet."""

    def __init__(self, task: TaskLeader) -> None:
        self._task = task
        self._read: tuple[Mapping[str, Any], RegistryNews] = {}, NO_NEWS
        self.run_forever = task.run_forever
        self.close = task.close
        self.ask = task.ask

    @property
    def leads(self) -> bool:
        return self._task.leads

    @property
    def in_contact(self) -> bool:
        return self._task.in_contact

    @property
    def asks(self) -> int:
        return self._task.lead.asks

    @property
    def taken(self) -> int:
        return self._task.taken

    @property
    def settled(self) -> bool:
        return self._task.settled

    @property
    def followed(self) -> bool:
        return self._task.leads or bool(self._task.leader)

    def elsewhere(self) -> str:
        task = self._task
        if task.leads:
            return ""
        if not task.in_contact:
            why = f": {task.problem}" if task.problem else ""
            return f"without contact with the fleet the registry is not followed here{why}"
        return f"{task.leader} follows the registry" if task.leader else "no host of the fleet follows the registry yet"

    def news(self) -> RegistryNews:
        said = self._task.lead.said
        if not self._task.in_contact:
            return NO_NEWS
        if said is not self._read[0]:
            try:
                self._read = said, news_of(said)
            except ValueError as error:
                log.error("what the host that follows the registry says cannot be read: %s", error)
                self._read = said, NO_NEWS
        return self._read[1]

    def say(self, news: RegistryNews) -> None:
        if news != self.news():
            self._task.say(document_of(news))
