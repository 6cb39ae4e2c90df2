"""The releases of this host that a fleet steps together: each has an exchange with the store several times a second."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from gateway.control.fleet import release_place
from gateway.control.fleet.deadline import at_most
from gateway.control.fleet.evidence import Digest
from gateway.control.fleet.leadership import in_contact
from gateway.control.fleet.release_codec import digest_of
from gateway.control.fleet.release_place import Place
from gateway.control.fleet.shared_release import SharedRelease
from gateway.control.fleet.store import Document, StoreUnavailable
from gateway.control.guards.observation import Randomised
from gateway.control.guards.window import Sample
from gateway.control.release.managed_release import ManagedRelease
from gateway.control.release.sharing import Sharing
from gateway.control.release.stages import Event

TICK_S: Final = 0.25
LONGEST_TICK_S: Final = 1.0
MOST_HOSTS: Final = 8  # with more, exchanges are rarer, since each host reads the logs of all
LONGEST_PAUSE_S: Final = 2.0
PAUSES: Final = 4  # times what a round of exchanges has taken: with very many releases the rounds are rarer
MEMORY: Final = "fleet"  # in what is kept of a release
log: Final = logging.getLogger("gateway.control.fleet")


class Manager(release_place.Manager, Protocol):
    """What is used of the release manager."""

    sharing: Sharing | None

    @property
    def managed(self) -> Mapping[str, ManagedRelease]: ...
    def memory_of(self, name: str) -> Mapping[str, Any]: ...


class SharedReleases:
    """Takes the place of the manager's controllers. `document`: opens a model's document in the store.

    `problems`: by model, why its last exchange failed, of those whose did.
    """

    def __init__(self, member: release_place.Member, manager: Manager, document: Callable[[str], Document]) -> None:
        self._manager = manager
        self._document = document
        self._place = Place(member, manager)
        self.releases: dict[str, SharedRelease] = {}
        self._waiting = deque[str]()  # models whose exchange is next, in their order
        self._kicked = asyncio.Event()
        self.problems: dict[str, str] = {}
        manager.sharing = self

    def collect(self, one: ManagedRelease, epoch: int, sample: Sample, randomised: Randomised) -> None:
        """See Sharing."""
        self._of(one).collect(one, epoch, sample, randomised)

    def command(self, one: ManagedRelease, event: Event, by: str) -> None:
        """See Sharing."""
        self._of(one).command(event, by)
        self._kicked.set()

    def memory(self, one: ManagedRelease) -> Mapping[str, Any]:
        """See Sharing."""
        shared = self.releases.get(one.name)
        kept = self._kept(one.name) if shared is None else shared.kept
        if kept is None:
            return {}
        return {MEMORY: {"name": self._place.fleet, "digest": kept._asdict() | {"recent": list(kept.recent)}}}

    async def run_forever(self) -> None:
        """Exchange until cancelled."""
        time_s = asyncio.get_running_loop().time
        while True:
            began_s = time_s()
            await self.exchange_all()
            pause_s = min(PAUSES * (time_s() - began_s), LONGEST_PAUSE_S)
            await at_most(max(self._tick_s(), pause_s), self._kicked.wait())
            self._kicked.clear()

    async def exchange_all(self) -> None:
        """Exchange each release once; those that follow a failure of the store wait for the next time. A release that
        has had no exchange for a lease has no controller: its live routes are closed until it has one again.
        """
        try:
            await self._exchange_each()
        finally:
            for name, shared in self.releases.items():
                if name in self._manager.managed:
                    shared.close_if_late()

    async def _exchange_each(self) -> None:
        """A round ends with a failure of the store, which may be down. The next one begins after that release, so that
        one model's damage does not hold up all others.
        """
        self._waiting = deque(dict.fromkeys([*self._waiting, *self.releases]))
        while self._waiting and in_contact(self._place.host, self._place.now_ns()):
            name = self._waiting.popleft()
            shared = self.releases.get(name)
            if shared is None:
                continue
            try:
                await self._exchange(name, shared)
                self.problems.pop(name, None)
            except (StoreUnavailable, TimeoutError) as error:
                self._note(name, str(error) or "the store does not answer")
                break
            except Exception as error:  # other releases, and stops, must go on
                problem = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                if name in self._manager.managed:
                    self._place.put_weights(shared.one, {})
                self._note(name, problem)

    async def _exchange(self, name: str, shared: SharedRelease) -> None:
        if name in self._manager.managed:
            await shared.exchange()
            return
        await shared.leave()
        if name not in self._manager.managed:  # it may have come back meanwhile
            del self.releases[name]

    def _tick_s(self) -> float:
        return min(TICK_S * max(1.0, len(self._place.host.members) / MOST_HOSTS), LONGEST_TICK_S)

    def _of(self, one: ManagedRelease) -> SharedRelease:
        shared = self.releases.get(one.name)
        if shared is None:
            document = self._document(f"release:{one.name}")
            shared = self.releases[one.name] = SharedRelease(document, self._place, one, self._kept(one.name))
        return shared

    def _kept(self, name: str) -> Digest | None:
        """The digest that the last process kept; None if there is none, or it is damaged."""
        memory = self._manager.memory_of(name).get(MEMORY)
        try:
            return None if memory is None or memory["name"] != self._place.fleet else digest_of(memory["digest"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.error("what was kept of the fleet's state of '%s' is damaged: %r", name, error)
            return None

    def _note(self, name: str, problem: str) -> None:
        if problem != self.problems.get(name):
            log.warning("the fleet runs no controller here: '%s': %s", name, problem)
        self.problems[name] = problem
