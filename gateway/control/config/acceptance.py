"""Validates each new text of the routing file, and persists what was accepted: release memory, text, history,
decisions.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.backends.repository import Repository
from gateway.control.config.file_history import RoutingHistory
from gateway.control.config.file_snapshot import Snapshot, revision_of
from gateway.control.config.memory import ReleaseMemory, ReleaseMemoryFile, with_undo_points
from gateway.control.config.resolve import ResolvedRouting, ResolveInput, candidates_closed, first_seen
from gateway.control.config.review import (
    BY_FILE,
    AcceptedText,
    changed_models,
    edit_decisions,
    evidence_of,
    parse_accepted,
    validate,
)
from gateway.control.garbage_collection import without_collection
from gateway.control.release.decisions import DecisionLog
from gateway.control.release.disk import DiskThread, DiskTimeout
from gateway.errors import Conflict
from gateway.settings.routing import RoutingSettings

log: Final = logging.getLogger("gateway.control.config")
RETRY_S: Final = 5.0  # between two attempts to write to a disk that failed
EDIT: Final = "edit"
FIRST_SEEN: Final = "first-seen"


@dataclass(frozen=True, slots=True)
class ValidatedRouting:
    """A validated text that may be applied, and the releases that it resolves to. `stopped`: the stops at that time."""

    snapshot: Snapshot
    accepted: AcceptedText
    resolved: ResolvedRouting
    stopped: AbstractSet[tuple[str, int]] = frozenset()  # stops in force when it was judged


class RoutingAcceptance:
    """Validates and persists routing texts. `state`: the state folder; `source`: the routing
    file's name in messages.
    """

    def __init__(self, state: Path, repository: Repository, decision_log: DecisionLog, source: str) -> None:
        self.history = RoutingHistory(state / "history")
        self._file = ReleaseMemoryFile(state)
        self._repository = repository
        self._decision_log = decision_log
        self._source = source
        self._accepted = parse_accepted(self._file.text())
        self.memory: ReleaseMemory = self._file.read(self._accepted.routing)
        self._replaced: tuple[bytes | None, ReleaseMemory] = None, {}  # the text accepted before, and its memory
        self._writing = asyncio.Lock()
        self._disk = DiskThread("accepted")
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

    def validate(self, now: Snapshot, loaded: AbstractSet[str] = frozenset()) -> ValidatedRouting:
        """Validate a text and resolve its releases; for a thread. Raises SettingsError. `loaded`: the models in
        service.
        """
        content, known = now.content_or_raise(self._source), self._known(loaded)
        with without_collection(len(content)):
            text, resolved = validate(content, self._accepted, known, self._source)
        if content == self._replaced[0]:  # as where an undo is rolled back: what could be undone then can be again
            resolved = replace(resolved, memory=with_undo_points(resolved.memory, self._replaced[1]))
        return ValidatedRouting(now, text, resolved, known.stopped)

    def stopped_since(self, validated: ValidatedRouting) -> list[str]:
        """Errors for new stables that were stopped as candidates since the text was judged: they would answer everyone.
        Empty if there are none.
        """
        since = self._decision_log.stopped_keys() - validated.stopped
        return [
            f"models.{name}: version {release.stable} was stopped while it was being made stable; if that is"
            " intended, save the file again with any change, such as a comment"
            for name, release in validated.resolved.routing.models.items()
            if (name, release.stable) in since and not self._is_stable(name, release.stable)
        ]

    def _is_stable(self, name: str, version: int) -> bool:
        """Whether it is in force already: in a fleet, hosts whose files are older may stop it as their candidate."""
        return name in self.memory and self.memory[name].stable == version

    def with_candidates_closed(self) -> ResolvedRouting | None:
        """The remembered releases with candidates closed; None if nothing is remembered."""
        return candidates_closed(self.memory, self._known(frozenset())) if self.memory else None

    def refuse_if_closed(self, name: str, closed: bool) -> None:
        """Raises Conflict if the model's candidate is `closed` because the routing file was refused at the start."""
        one = self.memory.get(name)
        if closed and one is not None and one.candidate is not None:
            why = f"candidate {one.candidate} of '{name}' gets no traffic, because {self._source} is refused"
            raise Conflict(f"{why}; fix the file, then try again; gateway status names the mistake")

    async def accept(self, validated: ValidatedRouting, note: Callable[[], object] | None = None) -> None:
        """Persist an accepted text; it is on disk when this returns. Call it before the text is applied, so that
        nothing is served that a restart would not know. If the disk does not answer, this logs an error, and
        `retry_write` writes it later.

        `note`: records the decision of the command that made the edit. It is called before the text can count as
        accepted: if the process is killed between the two, the next start records an edit by hand.
        """
        now, before = validated.snapshot, self._accepted.text
        if note is not None:
            note()
            await self._decision_log.wait_durable()
        elif before is not None and before != now.content:
            await self._record_manual_edit(validated, before)
        self._record_other_changes(validated)
        if self._unwritten or (validated.resolved.memory, now.content) != (self.memory, before):
            await self._write(validated.resolved.memory, now.content)
        if before != now.content:
            self._replaced = before, self.memory
        self.memory, self._accepted = validated.resolved.memory, validated.accepted

    async def retry_write(self) -> None:
        """Retry a failed write, at most every RETRY_S; call it regularly."""
        if self._unwritten and time.monotonic() - self._tried_s > RETRY_S:
            await self._write()

    async def _write(self, memory: ReleaseMemory | None = None, text: bytes | None = None) -> None:
        """Write these, or the current memory and text."""
        async with self._writing:
            if memory is None:
                memory, text = self.memory, self._accepted.text
            try:
                self._unwritten = not await self._disk.run(self._file.write, memory, text)
            except DiskTimeout as error:
                self._unwritten = True
                log.error(
                    "the releases in force cannot be written to disk; a restart would serve those written last: %s",
                    error.strerror,
                )
            self._tried_s = time.monotonic()

    async def first_seen(self, name: str) -> ResolvedRouting | None:
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
        return ResolvedRouting(RoutingSettings.model_construct(models={name: one.release()}), frozenset(), self.memory)

    async def _record_manual_edit(self, validated: ValidatedRouting, before: bytes) -> None:
        """Record the decisions of an edit made by hand, and keep the previous text in the history."""
        evidence = await asyncio.to_thread(evidence_of, before, validated.snapshot, self._source)
        try:
            evidence["kept"] = (await self._disk.run(self.history.keep, before)).name
        except OSError as error:
            log.error("%s: the previous text of the routing file cannot be saved: %s", self.history.folder, error)
        notes = validated.resolved.notes
        decisions = edit_decisions(self._accepted.routing, validated.accepted.routing, notes)
        if not decisions[0].model:  # very many entries, or none (only comments or layout)
            names = changed_models(self._accepted.routing, validated.accepted.routing)
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

    def _record_other_changes(self, validated: ValidatedRouting) -> None:
        """Log and record the changes that no edit decision covers: those of models without an entry; all, if the
        previous text is lost.
        """
        lost = self._accepted.text is None and bool(self.memory)
        entries = self._accepted.routing.models.keys() | validated.accepted.routing.models.keys()
        for name, lines in validated.resolved.notes.items():
            if name in entries and not lost:
                continue
            log.warning("%s", "; ".join(lines))
            if self.memory and name in validated.resolved.memory:
                one = validated.resolved.memory[name]
                action = EDIT if name in entries else FIRST_SEEN
                self._decision_log.record(name, one.candidate or one.stable, action, BY_FILE, "; ".join(lines), {})

    def _known(self, loaded: AbstractSet[str]) -> ResolveInput:
        return resolve_input(self.memory, self._repository, self._decision_log.stopped_keys(), loaded)


def resolve_input(
    memory: ReleaseMemory,
    repository: Repository,
    stopped: AbstractSet[tuple[str, int]],
    loaded: AbstractSet[str] = frozenset(),
) -> ResolveInput:
    """The input to `resolve`, with the versions on disk now; for a model that is not remembered, only versions with a
    loadable file.
    """
    try:
        versions = {name: repository.versions(name) for name in repository.names()}
    except OSError:  # missing for a moment, as while it is mounted or replaced: loaded models stay
        versions = {}
    for name in versions.keys() - memory.keys():
        versions[name] = [number for number in versions[name] if not repository.unserved_reason(name, number)]
    there = {name: numbers for name, numbers in versions.items() if numbers}
    return ResolveInput(memory, there, stopped, loaded)
