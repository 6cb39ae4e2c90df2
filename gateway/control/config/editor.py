"""Edits the routing file by command (promote, weight): exactly, atomically, applied or rolled back, and recorded in the
decision log.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.control.config.file_history import RoutingHistory, shortened_diff
from gateway.control.config.file_snapshot import revision_of, snapshot
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.config.yaml_edit import PROMOTE
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.control.release.disk import CancelFlag, DiskThread, DiskTimeout
from gateway.errors import Conflict, SettingsError
from gateway.settings.routing_file import parse_routing, routing_text
from gateway.system.durable_files import replacing, write_all
from gateway.version_key import VersionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One edit and its reason. `make`: maps the file's text to the edited text, or raises SettingsError."""

    model: str
    candidate: int
    action: str
    make: Callable[[str], str]
    by: str
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EditResult:
    """The result of an edit. `difference`: a unified diff; `decision`: None if nothing was changed, as in a dry run."""

    difference: str
    decision: ReleaseDecision | None


class _RecordOnce:
    """Records the decision at the first call; later calls return the same one."""

    def __init__(self, note: Callable[[], ReleaseDecision]) -> None:
        self._note = note
        self.decision: ReleaseDecision | None = None

    def __call__(self) -> ReleaseDecision:
        self.decision = self.decision or self._note()
        return self.decision


Reload = Callable[[bytes, Callable[[], object]], Awaitable[None]]


class RoutingEditor:
    """Edits the file that `routing_file` watches. Previous texts are kept in `history`.

    `reload` applies the file. It receives the text that was written, to recognize another's edit in its place, and a
    callback that records the decision; it calls that once the edit can no longer fail and before it counts as accepted.

    The file is handled as bytes: line endings and a byte order mark stay as they are. `promoting`: the release that an
    edit under way is making stable; a stop of it refuses the edit, however late it comes.
    """

    def __init__(
        self, routing_file: RoutingFileWatcher, decision_log: DecisionLog, reload: Reload, history: RoutingHistory
    ) -> None:
        self._routing_file = routing_file
        self._decision_log = decision_log
        self._reload = reload
        self._history = history
        self._editing = asyncio.Lock()
        self.promoting: VersionKey | None = None
        self._disk = DiskThread("edits")

    async def apply(self, edit: Edit, *, dry_run: bool) -> EditResult:
        """Make the edit and apply it in all workers. Raises Conflict if it is not in force; the message says whether
        the file was left, rolled back, or edited by another.
        """
        async with self._editing:
            try:
                if edit.action == PROMOTE:
                    self._refuse_if_stopped(edit.model, edit.candidate)
                    self.promoting = edit.model, edit.candidate
                return await self._apply(edit, dry_run=dry_run)
            finally:
                self.promoting = None

    def _refuse_if_stopped(self, model: str, candidate: int) -> None:
        if self._decision_log.stopped(model, candidate) is not None:
            raise Conflict(f"candidate {candidate} of '{model}' is stopped; resume it first")

    async def _apply(self, edit: Edit, *, dry_run: bool) -> EditResult:
        before = await self._current_text()
        after, changes = await asyncio.to_thread(self._edited_text, edit, before)
        if dry_run or after == before:
            return EditResult(changes, None)
        kept = await self._save_to_history(before)
        if await self._current_text() != before:
            raise Conflict(
                f"{self._routing_file.path} has just been edited by someone else; nothing was changed, try again"
            )
        await self._write(after)
        recorded = _RecordOnce(lambda: self._record(edit, before, after, changes, kept))
        await self._reload(after, recorded)
        if self._routing_file.status.error:
            raise Conflict(await self._roll_back(before, after, recorded))
        if self._routing_file.status.revision != revision_of(after):
            raise Conflict(f"{self._routing_file.path} has been edited again since, and that edit is in force")
        decision = recorded()
        await self._decision_log.wait_durable()
        return EditResult(changes, decision)

    def _record(self, edit: Edit, before: bytes, after: bytes, changes: str, kept: str) -> ReleaseDecision:
        evidence = {
            **edit.evidence,
            "difference": changes,
            "before": revision_of(before),
            "after": revision_of(after),
            "kept": kept,
        }
        return self._decision_log.record(edit.model, edit.candidate, edit.action, edit.by, edit.reason, evidence)

    def _record_rollback(self, decision: ReleaseDecision | None, error: str) -> None:
        if decision is not None:  # some workers served it for a moment
            self._decision_log.record(decision.model, decision.candidate, "taken-back", decision.by, error, {})

    async def _current_text(self) -> bytes:
        """The file's bytes. Raises Conflict unless they are the configuration in force: else the edit would also apply
        another's.
        """
        path, status = self._routing_file.path, self._routing_file.status
        try:
            now = await self._disk.run(snapshot, path)
        except DiskTimeout as error:
            raise Conflict(f"{path} cannot be read: {error.strerror}; nothing was changed") from None
        if now.error:
            raise Conflict(f"{path} cannot be read: {now.error}")
        if status.error:
            raise Conflict(f"{path} contains an edit that is refused; fix it first: {status.error}")
        if now.revision != status.revision:
            raise Conflict(f"{path} has just been edited, and that edit is not in force yet; try again in a moment")
        return now.content

    def _edited_text(self, edit: Edit, before: bytes) -> tuple[bytes, str]:
        path = str(self._routing_file.path)
        try:
            mark, text = routing_text(before, path)
            after = mark + edit.make(text).encode()
            parse_routing(after, path)
        except SettingsError as error:
            raise Conflict(str(error)) from None
        return after, shortened_diff(before, after, path)

    async def _save_to_history(self, content: bytes) -> str:
        try:
            return (await self._disk.run(self._history.keep, content)).name
        except OSError as error:
            raise Conflict(
                f"the previous text cannot be saved in {self._history.folder}: {error.strerror}; nothing was changed"
            ) from None

    async def _write(self, content: bytes) -> None:
        """Replace the file atomically, also across a crash. A symlink is kept: its target is
        replaced. Raises Conflict.
        """
        path, given_up = self._routing_file.path, CancelFlag()
        try:
            await self._disk.run(_replace, path, content, given_up, given_up=given_up)
        except DiskTimeout as error:
            raise Conflict(
                f"{path} cannot be written: {error.strerror}; nothing is changed now, but if the disk writes it"
                " later, it comes into force like a manual edit; look at the file before you try again"
            ) from None
        except OSError as error:
            raise Conflict(
                f"{path} cannot be written: {error.strerror}; if it is mounted read-only, such as a"
                " ConfigMap, edit its source"
            ) from None

    async def _roll_back(self, before: bytes, after: bytes, recorded: "_RecordOnce") -> str:
        """Roll back an edit that could not be applied, unless the file has been edited since; returns what happened,
        for the error.
        """
        error = self._routing_file.status.error
        try:
            now = await self._disk.run(snapshot, self._routing_file.path)
        except DiskTimeout as silent:
            return f"not in force: {error}; and it cannot be rolled back: {silent.strerror}"
        if now.error or now.content != after:
            return f"not in force: {error}; the file has been edited since, so it is not rolled back"
        try:
            await self._write(before)
        except Conflict as refused:
            return f"not in force: {error}; and it cannot be rolled back: {refused}"
        await self._reload(before, lambda: self._record_rollback(recorded.decision, error))
        return f"not in force, and rolled back: {error}"


def _replace(path: Path, content: bytes, given_up: CancelFlag) -> None:
    path = path.resolve()
    with replacing(path, path.with_name(f".{path.name}.new"), before_replace=given_up.check) as file:
        write_all(file, content)
        _copy_owner_and_mode(path, file)


def _copy_owner_and_mode(path: Path, new_path: int) -> None:
    """Give the new file the mode and, as far as this process may, the owner of the old one."""
    was, now = path.stat(), os.fstat(new_path)
    if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(new_path, was.st_uid, was.st_gid)
    os.fchmod(new_path, was.st_mode & 0o7777)
