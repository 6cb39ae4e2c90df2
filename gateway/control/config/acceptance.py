"""Judges each new text of the routing file, and keeps what was accepted: memory, text, history, decisions."""

import asyncio
import logging
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.repository import Repository
from gateway.control.config.file_history import History
from gateway.control.config.file_snapshot import Snapshot, revision_of
from gateway.control.config.memory import Memory, MemoryFile
from gateway.control.config.resolve import Known, Resolved, closed, first_seen
from gateway.control.config.review import BY_FILE, Accepted, accepted, edited, evidence_of, judge, told
from gateway.control.garbage_collection import put_aside
from gateway.control.release.decisions import DecisionLog
from gateway.control.release.disk import Disk, DiskSilent
from gateway.errors import Conflict
from gateway.settings.routing import RoutingSettings

log: Final = logging.getLogger("gateway.control.config")
AGAIN_S: Final = 5.0  # between two attempts to write what a full disk has not taken
EDIT: Final = "edit"
FIRST_SEEN: Final = "first-seen"


@dataclass(frozen=True, slots=True)
class Judged:
    """A text that may be put in force, and what is served by it."""

    now: Snapshot
    accepted: Accepted
    resolved: Resolved
    stopped: AbstractSet[tuple[str, int]] = frozenset()  # by then


class Accepting:
    """`state`: the folder; `source`: the routing file's name in messages."""

    def __init__(self, state: Path, repository: Repository, stops: DecisionLog, source: str) -> None:
        self.history = History(state / "history")
        self._file = MemoryFile(state)
        self._repository = repository
        self._decision_log = stops
        self._source = source
        self._accepted = accepted(self._file.text())
        self.memory: Memory = self._file.read(self._accepted.routing)
        self._writing = asyncio.Lock()
        self._disk = Disk("accepted")
        self._unwritten = False
        self._tried_s = 0.0

    @property
    def on_disk(self) -> bool:
        """Whether what was accepted last is what the next start would know of."""
        return not self._unwritten

    @property
    def revision(self) -> str:
        """Of the text accepted last."""
        return revision_of(self._accepted.text or b"")

    def judge(self, now: Snapshot, loaded: AbstractSet[str] = frozenset()) -> Judged:
        """For a thread. Raises SettingsError. `loaded`: the models in service."""
        content, known = now.checked(self._source), self._known(loaded)
        with put_aside(len(content)):
            text, resolved = judge(content, self._accepted, known, self._source)
        return Judged(now, text, resolved, known.stopped)

    def overtaken(self, judged: Judged) -> list[str]:
        """What a stop that has come since it was judged forbids: the stopped candidate would answer everyone."""
        since = self._decision_log.all() - judged.stopped
        return [
            f"models.{name}: version {release.stable} was stopped while it was being made stable; to mean it, save the"
            " file again with a change, as of a comment"
            for name, release in judged.resolved.routing.models.items()
            if (name, release.stable) in since
        ]

    def closed(self) -> Resolved | None:
        """What is remembered, with candidates closed; None where there is nothing."""
        return closed(self.memory, self._known(frozenset())) if self.memory else None

    def check_open(self, name: str, closed: bool) -> None:
        """Raises Conflict where the model's candidate is `closed`, since the routing file was refused at the start."""
        one = self.memory.get(name)
        if closed and one is not None and one.candidate is not None:
            why = f"candidate {one.candidate} of '{name}' is closed, since {self._source} is refused"
            raise Conflict(f"{why}; fix the file, then try again: gateway status says what is wrong with it")

    async def accept(self, judged: Judged, note: Callable[[], object] | None = None) -> None:
        """Keep it, on the disk when this returns. Before it is in force: nothing is served that is not remembered, but
        where the disk is silent, which is said, and made good when it answers.

        `note`: keeps the decision of the command that has made the edit, before it can count as accepted: a kill
        between the two leaves it to the next start, which keeps an edit by hand.
        """
        now, before = judged.now, self._accepted.text
        if note is not None:
            note()
            await self._decision_log.wait_durable()
        elif before is not None and before != now.content:
            await self._trace(judged, before)
        self._say(judged)
        if self._unwritten or (judged.resolved.memory, now.content) != (self.memory, before):
            await self._write(judged.resolved.memory, now.content)
        self.memory, self._accepted = judged.resolved.memory, judged.accepted

    async def write_again(self) -> None:
        """To be called every so often: what the disk did not take, the next start would not know."""
        if self._unwritten and time.monotonic() - self._tried_s > AGAIN_S:
            await self._write()

    async def _write(self, memory: Memory | None = None, text: bytes | None = None) -> None:
        """These, or everything as it is now."""
        async with self._writing:
            if memory is None:
                memory, text = self.memory, self._accepted.text
            try:
                self._unwritten = not await self._disk.do(self._file.write, memory, text)
            except DiskSilent as error:
                self._unwritten = True
                log.error("what is in force is not on disk, a restart would know of older versions: %s", error.strerror)
            self._tried_s = time.monotonic()

    async def first_seen(self, name: str) -> Resolved | None:
        """A model without an entry that is to be loaded: as remembered, else as it is seen now, which is then kept."""
        known = await asyncio.to_thread(self._known, frozenset[str]())
        one = self.memory.get(name) or first_seen(name, known)
        if one is None:
            return None
        if name not in self.memory:
            self.memory = {**self.memory, name: one}
            self._decision_log.record(
                name, one.stable, FIRST_SEEN, BY_FILE, f"served in version {one.stable}, its highest", {}
            )
            await self._write()
        return Resolved(RoutingSettings.model_construct(models={name: one.release()}), frozenset(), self.memory)

    async def _trace(self, judged: Judged, before: bytes) -> None:
        """Keep the decisions that an edit by hand is."""
        evidence = await asyncio.to_thread(evidence_of, before, judged.now, self._source)
        try:
            evidence["kept"] = (await self._disk.do(self.history.keep, before)).name
        except OSError as error:
            log.error("%s: the text before cannot be kept: %s", self.history.folder, error)
        notes = judged.resolved.notes
        decisions = told(self._accepted.routing, judged.accepted.routing, notes)
        if not decisions[0].model:  # no comment: very many entries
            names = edited(self._accepted.routing, judged.accepted.routing)
            evidence["changes"] = lines = [line for name in names for line in notes.get(name, ())]
            for line in lines:
                log.warning("%s was edited: %s", self._source, line)
        for one in decisions:
            self._decision_log.record(
                one.model, one.candidate, EDIT, f"{BY_FILE} of {evidence['owner']}", one.reason, evidence
            )
            if one.model:
                log.warning("%s was edited: %s", self._source, one.reason)
        await self._decision_log.wait_durable()

    def _say(self, judged: Judged) -> None:
        """What no decision about an edit says: models without an entry; all, where the text before is lost."""
        lost = self._accepted.text is None and bool(self.memory)
        entries = self._accepted.routing.models.keys() | judged.accepted.routing.models.keys()
        for name, lines in judged.resolved.notes.items():
            if name in entries and not lost:
                continue
            log.warning("%s", "; ".join(lines))
            if self.memory and name in judged.resolved.memory:
                one = judged.resolved.memory[name]
                action = EDIT if name in entries else FIRST_SEEN
                self._decision_log.record(name, one.candidate or one.stable, action, BY_FILE, "; ".join(lines), {})

    def _known(self, loaded: AbstractSet[str]) -> Known:
        return known(self.memory, self._repository, self._decision_log.all(), loaded)


def known(
    memory: Memory,
    repository: Repository,
    stopped: AbstractSet[tuple[str, int]],
    loaded: AbstractSet[str] = frozenset(),
) -> Known:
    """With the versions that are on disk now; of a model that is not remembered, those with a file to be loaded."""
    try:
        versions = {name: repository.versions(name) for name in repository.names()}
    except OSError:  # gone for a moment, as while it is mounted or replaced: what is loaded stays
        versions = {}
    for name in versions.keys() - memory.keys():
        versions[name] = [number for number in versions[name] if not repository.why_not_served(name, number)]
    there = {name: numbers for name, numbers in versions.items() if numbers}
    return Known(memory, there, stopped, loaded)
