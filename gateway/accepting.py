"""Judges each new text of the routing file, and keeps what was accepted: memory, text, history, decisions."""

import asyncio
import logging
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.release.accepted import BY_FILE, Accepted, accepted, evidence_of, judge, told
from gateway.release.history import History
from gateway.release.memory import Memory, MemoryFile
from gateway.release.resolve import Known, Resolved, closed, first_seen
from gateway.release.snapshot import Snapshot, revision_of
from gateway.release.stops import Stops
from gateway.serving.repository import Repository
from gateway.settings.routing_settings import RoutingSettings

log: Final = logging.getLogger("gateway.control")
EDIT: Final = "edit"
FIRST_SEEN: Final = "first-seen"


@dataclass(frozen=True, slots=True)
class Judged:
    """A text that may be put in force, and what is served by it."""

    now: Snapshot
    accepted: Accepted
    resolved: Resolved


class Accepting:
    """`state`: the folder; `source`: the routing file's name in messages."""

    def __init__(self, state: Path, repository: Repository, stops: Stops, source: str) -> None:
        self.history = History(state / "history")
        self._file = MemoryFile(state)
        self._repository = repository
        self._stops = stops
        self._source = source
        self.memory: Memory = self._file.read()
        self._accepted = accepted(self._file.text())

    @property
    def revision(self) -> str:
        """Of the text accepted last."""
        return revision_of(self._accepted.text or b"")

    def judge(self, now: Snapshot, loaded: AbstractSet[str] = frozenset()) -> Judged:
        """For a thread. Raises SettingsError. `loaded`: the models in service."""
        content = now.checked(self._source)
        text, resolved = judge(content, self._accepted, self._known(loaded), self._source)
        return Judged(now, text, resolved)

    def closed(self) -> Resolved | None:
        """What is remembered, with candidates closed; None where there is nothing."""
        return closed(self.memory, self._known(frozenset())) if self.memory else None

    async def accept(self, judged: Judged, *, by_command: bool = False) -> None:
        """Keep it, on the disk when this returns. Before it is in force: nothing is served that is not remembered."""
        now, before = judged.now, self._accepted.text
        if before is not None and before != now.content and not by_command:
            await self._trace(judged, before)
        self._say(judged)
        if (judged.resolved.memory, now.content) != (self.memory, before):
            await asyncio.to_thread(self._file.write, judged.resolved.memory, now.content)
        self.memory, self._accepted = judged.resolved.memory, judged.accepted

    async def first_seen(self, name: str) -> Resolved | None:
        """A model without an entry that is to be loaded: as remembered, else as it is seen now, which is then kept."""
        known = await asyncio.to_thread(self._known, frozenset[str]())
        one = self.memory.get(name) or first_seen(name, known)
        if one is None:
            return None
        if name not in self.memory:
            self.memory = {**self.memory, name: one}
            self._stops.note(name, one.stable, FIRST_SEEN, BY_FILE, f"served in version {one.stable}, its highest", {})
            await asyncio.to_thread(self._file.write, self.memory, None)
        return Resolved(RoutingSettings.model_construct(models={name: one.release()}), frozenset(), self.memory)

    async def _trace(self, judged: Judged, before: bytes) -> None:
        evidence = await asyncio.to_thread(evidence_of, before, judged.now, self._source)
        try:
            evidence["kept"] = (await asyncio.to_thread(self.history.keep, before)).name
        except OSError as error:
            log.error("%s: the text before cannot be kept: %s", self.history.folder, error)
        for one in told(self._accepted.routing, judged.accepted.routing, judged.resolved.notes):
            self._stops.note(one.model, one.candidate, EDIT, f"{BY_FILE} of {judged.now.owner}", one.reason, evidence)
            if one.model:
                log.warning("%s was edited: %s", self._source, one.reason)
        await self._stops.kept()

    def _say(self, judged: Judged) -> None:
        """What no decision about an entry says: models without one."""
        entries = self._accepted.routing.models.keys() | judged.accepted.routing.models.keys()
        for name, lines in judged.resolved.notes.items():
            if name in entries:
                continue
            log.warning("%s", "; ".join(lines))
            if self._accepted.text is not None and name in judged.resolved.memory:
                version = judged.resolved.memory[name].stable
                self._stops.note(name, version, FIRST_SEEN, BY_FILE, "; ".join(lines), {})

    def _known(self, loaded: AbstractSet[str]) -> Known:
        return known(self.memory, self._repository, self._stops.all(), loaded)


def known(
    memory: Memory,
    repository: Repository,
    stopped: AbstractSet[tuple[str, int]],
    loaded: AbstractSet[str] = frozenset(),
) -> Known:
    """With the versions that are on disk now."""
    try:
        versions = {name: repository.versions(name) for name in repository.names()}
    except OSError:  # gone for a moment, as while it is mounted or replaced: what is loaded stays
        versions = {}
    return Known(memory, versions, stopped, loaded)
