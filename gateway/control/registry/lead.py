"""Which host follows the registry: this one alone, or one for all hosts of a fleet."""

import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

from gateway.control.fleet.task_leader import TaskLeader
from gateway.control.registry.news import NO_NEWS, RegistryNews, document_of, news_of

UNREADABLE: Final = (
    "what the host that followed it last has found cannot be read here ({}): if a later release has written it, update"
    " this host; if it is damaged, delete the keys of NAME:registry, NAME being fleet.name, from the store"
)
log: Final = logging.getLogger("gateway.control.registry")


class Lead(Protocol):
    """`leads`: whether this host asks the registry, and acts, now. `in_contact`: whether anything is obeyed here, since
    all stops that a fleet has confirmed are known. `asks`: rises whenever another host has had a hint. `taken`: rises
    whenever this host takes the lead, or is told anew what others have found. `settled`: that is known. `followed`:
    some host leads. `unreadable`: why what was found before cannot be read here, with a remedy; empty if it can. Then
    this host neither acts nor overwrites it. `given_up_ns`: for how long this host gives the lead up, if it does.
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
    @property
    def unreadable(self) -> str: ...
    @property
    def given_up_ns(self) -> int: ...

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
    asks = taken = given_up_ns = 0
    unreadable = ""

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
        self._read: tuple[Mapping[str, Any], RegistryNews | str] = {}, NO_NEWS
        self._problem = ""  # logged last
        task.is_unreadable = lambda said: isinstance(self._of(said), str)
        self.run_forever = task.run_forever
        self.close = task.close
        self.ask = task.ask

    @property
    def given_up_ns(self) -> int:
        return self._task.given_up_ns

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
        return not self.unreadable and (self._task.leads or bool(self._task.leader))

    @property
    def unreadable(self) -> str:
        found = self._of(self._task.lead.said)
        return found if isinstance(found, str) else ""

    def elsewhere(self) -> str:
        task = self._task
        if task.leads:
            return self.unreadable
        if not task.in_contact:
            why = f": {task.problem}" if task.problem else ""
            return f"without contact with the fleet the registry is not followed here{why}"
        if problem := self.unreadable:
            return f"{task.leader} follows the registry, but {problem}" if task.leader else problem
        return f"{task.leader} follows the registry" if task.leader else "no host of the fleet follows the registry yet"

    def news(self) -> RegistryNews:
        found = self._of(self._task.lead.said)
        return NO_NEWS if isinstance(found, str) or not self._task.in_contact else found

    def say(self, news: RegistryNews) -> None:
        if news != self.news() and not self.unreadable:
            self._task.say(document_of(news))

    def _of(self, said: Mapping[str, Any]) -> RegistryNews | str:
        """What was said, or why it cannot be read."""
        if said is self._read[0]:
            return self._read[1]
        try:
            found: RegistryNews | str = news_of(said)
        except ValueError as error:
            found = UNREADABLE.format(error)
        problem = found if isinstance(found, str) else ""
        if problem and problem != self._problem:
            log.error("the registry is not followed here: %s", problem)
        self._read, self._problem = (said, found), problem
        return found
