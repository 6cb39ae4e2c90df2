"""Finds the models in a folder that others fill, as KServe's storage initializer does: the layouts that users bring.

    model.onnx                  a version without a number; its weights and model.yaml beside it
    FOLDER/model.onnx           the same, as an archive or a Hugging Face repository holds it
    VERSION/model.onnx          versions of one model; model.yaml beside them
    NAME/VERSION/model.onnx     models, as in `models.path`

The only .onnx file of a folder may have another name. Ignored are hidden entries, `lost+found` of a volume, and
whatever else lies beside the models.
"""

import contextlib
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
_NO_FOLDER: Final = (NotADirectoryError, FileNotFoundError, PermissionError)  # a link that leads nowhere among them


@dataclass(frozen=True, slots=True)
class MountedModels:
    """What a folder holds. `files`: of each model's versions, the ONNX file, or the remote.yaml of a version that runs
    on another server. `shared`: each model's folder, in which SHARED_FILES may lie.
    """

    files: dict[str, dict[int, Path]]
    shared: dict[str, Path]


def find_mounted(mounted: MountedSettings) -> MountedModels:
    """The models in the folder. Raises SettingsError that says what is there instead."""
    folder = Path(mounted.path)
    try:
        entries = _visible(folder)
        models = {entry.name: _versions(entry) for entry in entries if MODEL_NAME.fullmatch(entry.name)}
        models = {name: versions for name, versions in models.items() if versions}
        numbers, bare = _versions(folder), _model_files(entries)
    except OSError as error:
        raise _problem(f"{folder} cannot be read: {error.strerror}; is the volume mounted?") from None
    layouts = {"a model": [file.name for file in bare], "versions": list(map(str, numbers)), "models": list(models)}
    found = [f"{what} ({', '.join(names[:_SHOWN_NAMES])})" for what, names in layouts.items() if names]
    if len(found) > 1:
        raise _problem(f"{folder} holds both {' and '.join(found)}; leave only what is meant to be served")
    if models:
        return MountedModels(models, {name: folder / name for name in models})
    inner = {} if found else _inner(entries)
    if not found and len(inner) != 1:
        raise _problem(f"{folder} holds no model that can be served{_instead(folder, entries)}")
    if mounted.name is None:
        raise SettingsError(
            "gateway.yaml",
            [f"models.mounted.name: {folder} does not say the model's name; give it, or serve --model-name NAME"],
        )
    if not numbers:
        folder, files = (folder, bare) if bare else next(iter(inner.items()))
        numbers = {mounted.version: _the_one(files)}
    return MountedModels({mounted.name: numbers}, {mounted.name: folder})


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry))


def _model_files(entries: list[Path]) -> list[Path]:
    """The files that may be the model; several if none of them has the name."""
    files = [entry for entry in entries if entry.is_file()]
    named = [file for file in files if file.name in (MODEL_FILE, REMOTE_FILE)]
    return named[:1] or [file for file in files if file.suffix.lower() == ".onnx"]


def _versions(folder: Path) -> dict[int, Path]:
    """The model files of the versions in a folder, by their numbers, ascending. Raises SettingsError if there are
    several in one.
    """
    try:
        there = [entry for entry in folder.iterdir() if is_version(entry.name) and entry.is_dir()]
        files = {int(entry.name): _model_files(_visible(entry)) for entry in there}
    except _NO_FOLDER:
        return {}
    return {number: _the_one(files[number]) for number in sorted(files) if files[number]}


def _the_one(files: list[Path]) -> Path:
    if len(files) == 1:
        return files[0]
    names = ", ".join(file.name for file in files[:_SHOWN_NAMES])
    raise _problem(f"{files[0].parent} holds {names}; call the one to serve {MODEL_FILE}")


def _inner(entries: list[Path]) -> dict[Path, list[Path]]:
    """The model files one folder below, by their folders."""
    found = {}
    for entry in entries:
        with contextlib.suppress(*_NO_FOLDER):
            found[entry] = _model_files(_visible(entry))
    return {entry: files for entry, files in found.items() if files}


def _instead(folder: Path, entries: list[Path]) -> str:
    """What is there instead of a model, with the remedy as far as it is plain."""
    if not entries:
        return ": it is empty"
    if inner := _inner(entries):
        return f"; its folders {', '.join(entry.name for entry in inner)} do: mount one of them"
    versions = [entry for entry in entries if is_version(entry.name) and entry.is_dir()]
    misnamed = [] if versions else [over for over in unserved_entries(folder) if over.name != MODEL_FILE]
    if misnamed:
        return f": {misnamed[0]}"
    found = versions[0] if versions else folder
    reason = unserved_reason(found)
    return f": {found}{'/' if reason.startswith(MODEL_FILE) else ' '}{reason}"


def _problem(text: str) -> SettingsError:
    return SettingsError("gateway.yaml", [f"models.mounted: {text}"])
