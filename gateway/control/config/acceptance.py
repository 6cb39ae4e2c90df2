"""Validates each new text of the routing file, and persists what was accepted: release memory, text, history,
decisions.
"""

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
AGAIN_S: Final = 5.0  # between two attempts to write to a disk that failed
EDIT: Final = "edit"
FIRST_SEEN: Final = "first-seen"


@dataclass(frozen=True, slots=True)
class Judged:
    """A validated text that may be applied, and the releases that it resolves to. `stopped`: the stops at that time."""

    now: Snapshot
    accepted: Accepted
    resolved: Resolved
    stopped: AbstractSet[tuple[str, int]] = frozenset()  # stops in force when it was judged


class Accepting:
    """Validates and persists routing texts. `state`: the state folder; `source`: the routing
    file's name in messages.
    """

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
        """Whether the text accepted last is on disk, so that a restart would know of it."""
        return not self._unwritten

    @property
    def revision(self) -> str:
        """The revision of the text accepted last."""
        return revision_of(self._accepted.text or b"")

    def judge(self, now: Snapshot, loaded: AbstractSet[str] = frozenset()) -> Judged:
        """Validate a text and resolve its releases; for a thread. Raises SettingsError. `loaded`: the models in
        service.
        """
        content, known = now.checked(self._source), self._known(loaded)
        with put_aside(len(content)):
            text, resolved = judge(content, self._accepted, known, self._source)
        return Judged(now, text, resolved, known.stopped)

    def overtaken(self, judged: Judged) -> list[str]:
        """Errors for stables that were stopped as candidates since the text was judged: they would answer everyone.
        Empty if there are none.
        """
        since = self._decision_log.all() - judged.stopped
        return [
            f"models.{name}: version {release.stable} was stopped while it was being made stable; if that is"
            " intended, save the file again with any change, such as a comment"
            for name, release in judged.resolved.routing.models.items()
            if (name, release.stable) in since
        ]

    def closed(self) -> Resolved | None:
        """The remembered releases with candidates closed; None if nothing is remembered."""
        return closed(self.memory, self._known(frozenset())) if self.memory else None

    def check_open(self, name: str, closed: bool) -> None:
        """Raises Conflict if the model's candidate is `closed` because the routing file was refused at the start."""
        one = self.memory.get(name)
        if closed and one is not None and one.candidate is not None:
            why = f"candidate {one.candidate} of '{name}' gets no traffic, because {self._source} is refused"
            raise Conflict(f"{why}; fix the file, then try again; gateway status names the mistake")

    async def accept(self, judged: Judged, note: Callable[[], object] | None = None) -> None:
        """Persist an accepted text; it is on disk when this returns. Call it before the text is applied, so that
        nothing is served that a restart would not know. If the disk does not answer, this logs an error, and
        `write_again` writes it later.

        `note`: records the decision of the command that made the edit. It is called before the text can count as
        accepted: if the process is killed between the two, the next start records an edit by hand.
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
        """Retry a failed write, at most every AGAIN_S; call it regularly."""
        if self._unwritten and time.monotonic() - self._tried_s > AGAIN_S:
            await self._write()

    async def _write(self, memory: Memory | None = None, text: bytes | None = None) -> None:
        """Write these, or the current memory and text."""
        async with self._writing:
            if memory is None:
                memory, text = self.memory, self._accepted.text
            try:
                self._unwritten = not await self._disk.do(self._file.write, memory, text)
            except DiskSilent as error:
                self._unwritten = True
                log.error(
                    "the releases in force cannot be written to disk; a restart would serve those written last: %s",
                    error.strerror,
                )
            self._tried_s = time.monotonic()

    async def first_seen(self, name: str) -> Resolved | None:
        """The release of a model without an entry that is about to be loaded: as remembered, else its highest version
        that is not stopped, which is then remembered and persisted. None if there is no such version.
        """
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
        """Record the decisions of an edit made by hand, and keep the previous text in the history."""
        evidence = await asyncio.to_thread(evidence_of, before, judged.now, self._source)
        try:
            evidence["kept"] = (await self._disk.do(self.history.keep, before)).name
        except OSError as error:
            log.error("%s: the previous text of the routing file cannot be saved: %s", self.history.folder, error)
        notes = judged.resolved.notes
        decisions = told(self._accepted.routing, judged.accepted.routing, notes)
        if not decisions[0].model:  # very many entries, or none (only comments or layout)
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
        """Log and record the changes that no edit decision covers: those of models without an entry; all, if the
        previous text is lost.
        """
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
    """The input to `resolve`, with the versions on disk now; for a model that is not remembered, only versions with a
    loadable file.
    """
    try:
        versions = {name: repository.versions(name) for name in repository.names()}
    except OSError:  # missing for a moment, as while it is mounted or replaced: loaded models stay
        versions = {}
    for name in versions.keys() - memory.keys():
        versions[name] = [number for number in versions[name] if not repository.why_not_served(name, number)]
    there = {name: numbers for name, numbers in versions.items() if numbers}
    return Known(memory, there, stopped, loaded)
