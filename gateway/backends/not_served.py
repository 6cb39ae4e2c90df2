"""Finds entries of the model repository that look like a model or a version but are not served, with the reasons.

Not reported, since they are not meant to be models: names that begin with a dot (`.git`, `..data` of a ConfigMap,
`.ipynb_checkpoints`), `lost+found`, `__pycache__`, and folders with neither a model file nor a version: scripts,
tables, notes.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.settings.units import LARGEST_VERSION
from gateway.system.printable import printable

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")  # a folder's name has 255 bytes
VERSION_NAME: Final = re.compile(r"[1-9][0-9]*")
MODEL_FILE: Final = "model.onnx"
REMOTE_FILE: Final = "remote.yaml"  # instead of it: another server runs the version
_TOO_LARGE: Final = (
    f"is no version; {LARGEST_VERSION} is the largest: a date such as 20261231 fits, a date with a time does not"
)
REMEDY: Final = "it must be readable by the gateway's user"
_MEANT_AS_VERSION: Final = re.compile(r"(?:v|ver|version)?[-_. +]*\d[\d._]*\s*", re.IGNORECASE)
_IGNORED: Final = frozenset(("lost+found", "__pycache__"))
_OTHER_KINDS: Final = (
    *(".pt", ".pth", ".ckpt", ".pb", ".h5", ".hdf5", ".keras", ".tflite", ".safetensors", ".pkl", ".pickle"),
    *(".joblib", ".engine", ".plan", ".mlmodel", ".ort", ".cbm", ".gguf"),
)


@dataclass(frozen=True, slots=True)
class UnservedEntry:
    """An entry that is not served. `version`: the folder's name, maybe no version; empty if the model is meant."""

    name: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"{'/'.join(filter(None, (self.name, self.version)))}: {self.reason}"


def is_version(folder: str) -> bool:
    """Whether a folder of that name is a version's."""
    return VERSION_NAME.fullmatch(folder) is not None and int(folder) <= LARGEST_VERSION


def unserved_entries(repository: Path) -> list[UnservedEntry]:
    """All such entries of the repository, ordered by name. Entries that cannot be read are included."""
    try:
        entries = sorted(repository.iterdir())
    except OSError as error:
        return [UnservedEntry(repository.name, "", f"cannot be read: {error.strerror}")]
    return [_printable(found) for entry in entries if not is_hidden(entry) for found in _safe_check_entry(entry)]


def unserved_reason(folder: Path) -> str:
    """What is wrong with a version's folder, and the remedy; empty if its model file can be read."""
    file = folder / MODEL_FILE
    try:
        if (remote := folder / REMOTE_FILE).exists():
            if file.exists():
                return (
                    f"holds both {MODEL_FILE} and {REMOTE_FILE}; remove one: a version runs here or on another server"
                )
            return "" if remote.is_file() and os.access(remote, os.R_OK) else f"holds {REMOTE_FILE}, and {REMEDY}"
        if file.is_dir():
            return f"{MODEL_FILE} is a folder; put the file {MODEL_FILE} itself, with its weights, into {folder.name}/"
        if file.is_symlink() and not file.exists():
            return f"{MODEL_FILE} is a link to {os.readlink(file)}, which does not exist"
        if file.exists():
            return "" if file.is_file() and os.access(file, os.R_OK) else _unreadable(file)
        return _missing_model_file(sorted(path.name for path in folder.iterdir() if not is_hidden(path)))
    except OSError as error:
        return f"cannot be read: {error.strerror}; {REMEDY}"


def _printable(found: UnservedEntry) -> UnservedEntry:
    """The entry with characters escaped that a terminal or JSON cannot show, as in names that are not UTF-8."""
    return UnservedEntry(*map(printable, (found.name, found.version, found.reason)))


def _safe_check_entry(entry: Path) -> Iterator[UnservedEntry]:
    """What is wrong with one entry of the repository and with its contents."""
    try:
        yield from _check_entry(entry)
    except OSError as error:
        yield UnservedEntry(entry.name, "", f"cannot be read: {error.strerror}; {REMEDY}")


def _check_entry(entry: Path) -> Iterator[UnservedEntry]:
    if entry.is_symlink() and not entry.exists():
        yield UnservedEntry(entry.name, "", f"is a link to {os.readlink(entry)}, which does not exist")
    elif entry.is_dir():
        yield from _model(entry) if MODEL_NAME.fullmatch(entry.name) else _misnamed(entry)
    elif entry.suffix.lower() == ".onnx":
        remedy = f"a model is a folder; move it to {entry.stem}/1/{MODEL_FILE}"
        yield UnservedEntry(entry.name, "", f"is a file, and {remedy}")


def _misnamed(folder: Path) -> Iterator[UnservedEntry]:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name)
    yield UnservedEntry(
        folder.name, "", f"its name holds more than letters, digits, '_', '-' and '.'; rename it, such as to {name}"
    )


def _model(folder: Path) -> Iterator[UnservedEntry]:
    name = folder.name
    entries = sorted(entry for entry in folder.iterdir() if not is_hidden(entry))
    versions = [entry for entry in entries if is_version(entry.name) and entry.is_dir()]
    found = [UnservedEntry(name, "", reason) for reason in _misplaced_files(entries)]
    for entry in entries:
        reason = unserved_reason(entry) if entry in versions else _no_version(entry)
        if reason:
            found.append(UnservedEntry(name, entry.name, reason))
    if not found and not versions and (not entries or any(entry.name == "model.yaml" for entry in entries)):
        found.append(UnservedEntry(name, "", f"holds no version; put one into {name}/1/{MODEL_FILE}"))
    yield from found


def _misplaced_files(entries: list[Path]) -> Iterator[str]:
    """Model files beside the versions, or instead of them."""
    files = [entry.name for entry in entries if entry.is_file()]
    onnx = [name for name in files if name.lower().endswith(".onnx")]
    for name in onnx:
        yield f"{name} lies in no version's folder; move it to 1/{MODEL_FILE}, with its weights"
    others = [name for name in files if Path(name).suffix.lower() in _OTHER_KINDS]
    if others and not onnx and not any(entry.is_dir() for entry in entries):
        yield f"holds {others[0]}, which is not ONNX; export it to 1/{MODEL_FILE}"


def _no_version(entry: Path) -> str:
    """What is wrong with an entry of a model's folder that is not a version; empty if it is not meant to be one."""
    if not entry.is_dir():
        dangling = entry.is_symlink() and not entry.exists() and VERSION_NAME.fullmatch(entry.name)
        if dangling:
            return f"is a link to {os.readlink(entry)}, which does not exist"
        return f"is a file; a version is a folder with {MODEL_FILE} in it" if VERSION_NAME.fullmatch(entry.name) else ""
    if not _MEANT_AS_VERSION.fullmatch(entry.name) and not _holds_model(entry):
        return ""
    if entry.is_symlink() and entry.resolve().parent == entry.parent.resolve():
        return ""  # `latest`, beside the version that it leads to
    if VERSION_NAME.fullmatch(entry.name):
        return _TOO_LARGE
    digits = re.search(r"[1-9][0-9]*", entry.name)
    return f"is no version; a version's folder is a whole number from 1, such as {digits[0] if digits else '1'}"


def _holds_model(folder: Path) -> bool:
    try:
        return any(path.suffix.lower() == ".onnx" for path in folder.iterdir())
    except OSError:
        return False


def _missing_model_file(names: list[str]) -> str:
    """What is wrong with a version's folder without model.onnx, by the names in it."""
    onnx = [name for name in names if name.lower().endswith(".onnx")]
    if onnx:
        return f"{MODEL_FILE} is missing; rename {onnx[0]} to {MODEL_FILE}"
    others = [name for name in names if Path(name).suffix.lower() in _OTHER_KINDS or "saved_model" in name]
    if others:
        return f"{MODEL_FILE} is missing; {others[0]} is not ONNX: export it"
    if any(name.endswith((".data", ".bin")) for name in names):
        return f"{MODEL_FILE} is missing; only its weights are there"
    return f"{MODEL_FILE} is missing" + (f"; there is {', '.join(names[:3])}" if names else "")


def _unreadable(file: Path) -> str:
    if not file.is_file():
        return f"{MODEL_FILE} is no regular file"
    return f"{MODEL_FILE} cannot be read: {REMEDY}"


def is_hidden(path: Path) -> bool:
    """Whether an entry is not meant to be a model, by its name."""
    return path.name.startswith(".") or path.name in _IGNORED
