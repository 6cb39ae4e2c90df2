"""The models' entries of this host's routing file that are in force, and an edit of one of them."""

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.control.config.file_snapshot import snapshot
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.config.yaml_edit import RoutingChange, replace_entry
from gateway.control.fleet.routing_state import NOTHING, fingerprint
from gateway.errors import SettingsError
from gateway.settings.document import parse_yaml
from gateway.settings.routing_file import routing_text


class RoutingEntries:
    """Fingerprints by model. `revision`: of the text that they are from, which was in force when it was read."""

    def __init__(self, routing_file: RoutingFileWatcher) -> None:
        self._routing_file = routing_file
        self.source = str(routing_file.path)
        self.revision = ""
        self.entries: Mapping[str, str] = NOTHING

    async def read(self) -> None:
        """Read them again if another text is in force."""
        in_force = self._routing_file.status.revision
        if in_force != self.revision:
            found = await asyncio.to_thread(self._read, in_force)
            if found is not None:
                self.revision, self.entries = in_force, found

    def _read(self, in_force: str) -> Mapping[str, str] | None:
        now = snapshot(self._routing_file.path)
        if now.error or now.revision != in_force:
            return None  # edited since: what comes of that is known soon
        try:
            return {model: fingerprint(entry) for model, entry in _entries(now.content, self.source).items()}
        except SettingsError:
            return None


class EntryEdit:
    """Makes `change` in a text. `before`, `after`: fingerprints of the entry; of an edit that is given here they are
    known once `first` has made it.
    """

    def __init__(self, change: RoutingChange, source: str, before: str = "", after: str = "") -> None:
        self._change = change
        self._source = source
        self.before = before
        self.after = after
        self._text = ""

    def first(self, text: str) -> str:
        """The edited text. Raises SettingsError."""
        edited = self._change.made(text, self._source)
        self.before, self.after = self._print(text), self._print(edited)
        return edited

    def again(self, text: str) -> str:
        """The edited text, if the entry is `before` in this one and `after` in that. Raises SettingsError."""
        if self._print(text) != self.before:
            raise self._problem("has been edited meanwhile, so that the edit does not apply")
        edited = self._change.made(text, self._source)
        if self._print(edited) != self.after:
            raise self._problem("would not become the same as on the host where the edit was given")
        self._text = text
        return edited

    def back(self, text: str) -> str:
        """The text with the entry as before the edit, if it is as after it, else as it is. Raises SettingsError."""
        if self._print(text) != self.after:
            return text
        return replace_entry(text, self._text, self._change.model, self._source)

    def _print(self, text: str) -> str:
        return fingerprint(_entries(text.encode(), self._source).get(self._change.model))

    def _problem(self, text: str) -> SettingsError:
        return SettingsError(self._source, [f"models.{self._change.model} {text}"])


def _entries(content: bytes, source: str) -> Mapping[str, Any]:
    document = parse_yaml(routing_text(content, source)[1], source)
    models = document.get("models") if isinstance(document, dict) else None
    return {str(model): entry for model, entry in models.items()} if isinstance(models, dict) else NOTHING
