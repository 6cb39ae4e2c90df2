"""Finds the models in a folder that others fill, as KServe's storage initializer does: the layouts that users bring.

    model.onnx                  a version without a number; its weights and model.yaml beside it
    FOLDER/model.onnx           the same, as an archive or a Hugging Face repository holds it
    VERSION/model.onnx          versions of one model; model.yaml beside them
    NAME/VERSION/model.onnx     models, as in `models.path`

The only .onnx file of a folder may have another name. Ignored are hidden entries, `lost+found` of a volume, and
whatever else lies beside the models.
"""

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.not_served import (
    MODEL_FILE,
    MODEL_NAME,
    REMOTE_FILE,
    is_hidden,
    is_version,
    unserved_entries,
    unserved_reason,
)
from gateway.errors import SettingsError
from gateway.settings.gateway import MountedSettings

SHARED_FILES: Final = ("model.yaml", "warmup.json")  # of a model, for all its versions
_SHOWN_NAMES: Final = 5
_NO_FOLDER: Final = (NotADirectoryError, FileNotFoundError)  # a link that leads nowhere among them


@dataclass(frozen=True, slots=True)
class MountedModels:
    """What a folder holds. `files`: of each model's versions, the ONNX file, or the remote.yaml of a version that runs
    on another server. `shared`: each model's folder, in which SHARED_FILES may lie. `unread`: entries that cannot be
    read, with the reasons: of those it is not known whether they have gone.
    """

    files: dict[str, dict[int, Path]]
    shared: dict[str, Path]
    unread: tuple[str, ...] = ()


def find_mounted(mounted: MountedSettings) -> MountedModels:
    """The models in the folder. Raises SettingsError that says what is there instead."""
    folder = Path(mounted.path)
    try:
        entries = _visible(folder)
    except OSError as error:
        raise _problem(f"{folder} cannot be read: {error.strerror}; is the volume mounted?") from None
    return _Mount(mounted, folder, entries).find()


class _Mount:
    def __init__(self, mounted: MountedSettings, folder: Path, entries: list[Path]) -> None:
        self._mounted = mounted
        self._folder = folder
        self._entries = entries
        self._unread: dict[str, None] = {}

    def find(self) -> MountedModels:
        folder, mounted = self._folder, self._mounted
        models = {entry.name: self._versions(entry) for entry in self._entries if MODEL_NAME.fullmatch(entry.name)}
        models = {name: versions for name, versions in models.items() if versions}
        numbers, bare = self._versions(folder), self._model_files(self._entries)
        layouts = {"a model": [file.name for file in bare], "versions": list(map(str, numbers)), "models": list(models)}
        found = [f"{what} ({', '.join(names[:_SHOWN_NAMES])})" for what, names in layouts.items() if names]
        if len(found) > 1:
            raise _problem(f"{folder} holds both {' and '.join(found)}; leave only what is meant to be served")
        if models:
            return MountedModels(models, {name: folder / name for name in models}, tuple(self._unread))
        inner = {} if found else self._inner()
        if not found and len(inner) != 1:
            raise _problem(f"{folder} holds no model that can be served{self._instead(inner)}")
        if mounted.name is None:
            problem = f"{folder} does not say the model's name; give it, or serve --model-name NAME"
            raise SettingsError("gateway.yaml", [f"models.mounted.name: {problem}"])
        if not numbers:
            folder, files = (folder, bare) if bare else next(iter(inner.items()))
            numbers = {mounted.version: _the_one(files)}
        return MountedModels({mounted.name: numbers}, {mounted.name: folder}, tuple(self._unread))

    def _model_files(self, entries: list[Path]) -> list[Path]:
        """The files that may be the model; several if none of them has the name."""
        files = [entry for entry in entries if self._is(stat.S_ISREG, entry)]
        named = [file for file in files if file.name in (MODEL_FILE, REMOTE_FILE)]
        return named[:1] or [file for file in files if file.suffix.lower() == ".onnx"]

    def _versions(self, folder: Path) -> dict[int, Path]:
        """The model files of the versions in a folder, by their numbers, ascending. Raises SettingsError if there are
        several in one.
        """
        there = [entry for entry in self._inside(folder) if is_version(entry.name) and self._is(stat.S_ISDIR, entry)]
        files = {int(entry.name): self._model_files(self._inside(entry)) for entry in there}
        return {number: _the_one(files[number]) for number in sorted(files) if files[number]}

    def _inner(self) -> dict[Path, list[Path]]:
        """The model files one folder below, by their folders."""
        found = {entry: self._model_files(self._inside(entry)) for entry in self._entries}
        return {entry: files for entry, files in found.items() if files}

    def _inside(self, folder: Path) -> list[Path]:
        """The visible entries of a folder; none if it is no folder, or cannot be read."""
        try:
            return _visible(folder)
        except _NO_FOLDER:
            return []
        except OSError as error:
            return self._left_out(folder, error)

    def _is(self, kind: Callable[[int], bool], entry: Path) -> bool:
        try:
            return kind(entry.stat().st_mode)
        except _NO_FOLDER:
            return False
        except OSError as error:
            return bool(self._left_out(entry, error))

    def _left_out(self, entry: Path, error: OSError) -> list[Path]:
        self._unread[f"{entry} cannot be read: {error.strerror}"] = None
        return []

    def _instead(self, inner: dict[Path, list[Path]]) -> str:
        """What is there instead of a model, with the remedy as far as it is plain."""
        folder = self._folder
        if not self._entries:
            return ": it is empty"
        if self._unread:
            return f": {next(iter(self._unread))}"
        if inner:
            return f"; its folders {', '.join(entry.name for entry in inner)} do: mount one of them"
        versions = [entry for entry in self._entries if is_version(entry.name) and self._is(stat.S_ISDIR, entry)]
        misnamed = [] if versions else [over for over in unserved_entries(folder) if over.name != MODEL_FILE]
        if misnamed:
            return f": {misnamed[0]}"
        found = versions[0] if versions else folder
        reason = unserved_reason(found)
        return f": {found}{'/' if reason.startswith(MODEL_FILE) else ' '}{reason}"


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry))


def _the_one(files: list[Path]) -> Path:
    if len(files) == 1:
        return files[0]
    names = ", ".join(file.name for file in files[:_SHOWN_NAMES])
    raise _problem(f"{files[0].parent} holds {names}; call the one to serve {MODEL_FILE}")


def _problem(text: str) -> SettingsError:
    return SettingsError("gateway.yaml", [f"models.mounted: {text}"])
