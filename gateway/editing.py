"""Edits of the routing file by order: exact, atomic, put in force or put back, and kept in the list of decisions."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.configuration import Configuration, revision_of
from gateway.errors import Conflict, SettingsError
from gateway.release.stops import Decision, Stops
from gateway.settings.edit import difference
from gateway.settings.load import parse
from gateway.settings.routing_settings import RoutingSettings


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change and why. `make`: the file's text before to the text after, or SettingsError."""

    model: str
    candidate: int
    action: str
    make: Callable[[str], str]
    by: str
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edited:
    """What came of it. `difference`: a unified diff; `decision`: None after a dry run."""

    difference: str
    decision: Decision | None


class Editor:
    """Edits the file of `configuration`, which `reload` puts in force. What it edits away is kept in `history`."""

    def __init__(
        self, configuration: Configuration, stops: Stops, reload: Callable[[], Awaitable[None]], history: Path
    ) -> None:
        self._configuration = configuration
        self._stops = stops
        self._reload = reload
        self._history = history
        self._editing = asyncio.Lock()

    async def carry_out(self, edit: Edit, *, dry_run: bool) -> Edited:
        """The edit in force in all workers; raises Conflict, and then nothing has changed."""
        async with self._editing:
            before = self._in_force()
            after, changes = await asyncio.to_thread(self._made, edit, before)
            if dry_run or not changes:
                return Edited(changes, None)
            kept = self._keep(before)
            self._write(after)
            await self._reload()
            if self._configuration.status.error:
                raise Conflict(await self._put_back(before, after))
            evidence = {
                **edit.evidence,
                "difference": changes,
                "before": revision_of(before.encode()),
                "after": revision_of(after.encode()),
                "kept": kept.name,
            }
            decision = self._stops.note(edit.model, edit.candidate, edit.action, edit.by, edit.reason, evidence)
            await self._stops.kept()
            return Edited(changes, decision)

    def _in_force(self) -> str:
        """The file's text, which must be the configuration in force: else the edit would bring in another's too."""
        path, status = self._configuration.path, self._configuration.status
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Conflict(f"{path} cannot be read: {error.strerror}") from None
        if status.error:
            raise Conflict(f"{path} holds an edit that is not in force; mend it first: {status.error}")
        if revision_of(content) != status.revision:
            raise Conflict(f"{path} has just been edited and that is not in force yet; try again in a moment")
        return content.decode()

    def _made(self, edit: Edit, before: str) -> tuple[str, str]:
        path = str(self._configuration.path)
        try:
            after = edit.make(before)
            parse(after, RoutingSettings, path)
        except SettingsError as error:
            raise Conflict(str(error)) from None
        return after, difference(before, after, path)

    def _keep(self, text: str) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        kept = self._history / f"routing-{stamp}-{revision_of(text.encode())}.yaml"
        try:
            self._history.mkdir(parents=True, exist_ok=True)
            kept.write_text(text)
        except OSError as error:
            raise Conflict(
                f"{kept}, the text before, cannot be written: {error.strerror}; nothing was edited"
            ) from None
        return kept

    def _write(self, text: str) -> None:
        """A reader sees the old file or the new one, also after a crash. A symlink stays one: its target changes."""
        path = self._configuration.path.resolve()
        beside = path.with_name(f".{path.name}.new")
        try:
            with beside.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            shutil.copymode(path, beside)
            beside.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise Conflict(
                f"{path} cannot be written: {error.strerror}; a file that is mounted read-only, such as a"
                " ConfigMap's, is edited where it comes from"
            ) from None

    async def _put_back(self, before: str, after: str) -> str:
        """Undo an edit that could not be put in force, unless someone has edited since."""
        error = self._configuration.status.error
        if self._configuration.path.read_text() == after:
            self._write(before)
            await self._reload()
        return f"not in force, and taken back: {error}"
