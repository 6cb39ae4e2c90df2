"""The tar archive of a version's folder, made as it is sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.backends.digest import refuse_outside
from gateway.backends.onnx_file import read_onnx_file
from gateway.cli.refusal import CommandError
from gateway.system.tar_archive import ArchivedFile, FileChanged, archive_chunks, archive_size

MODEL_FILE: Final = "model.onnx"
_IGNORED: Final = frozenset(("__pycache__",))


class VersionArchive:
    """The archive of `path`: a folder with model.onnx in it, or an ONNX file, which is sent with its files of weights.

    Hidden files are left out; links to files are followed. Raises CommandError, ModelUnavailable.
    """

    def __init__(self, path: Path) -> None:
        self.files = list(_files_of_folder(path) if path.is_dir() else _files_of_model(path))
        if not any(file.name == MODEL_FILE for file in self.files):
            there = [file.name for file in self.files if file.name.endswith(".onnx")]
            found = f"; rename {there[0]} to it" if len(there) == 1 and "/" not in there[0] else ""
            versions = sorted(
                {file.name.partition("/")[0] for file in self.files if file.name.endswith(f"/{MODEL_FILE}")}
            )
            found = f"; name one version's folder, such as {path / versions[0]}" if versions else found
            raise CommandError(f"{path} holds no {MODEL_FILE}{found}")

    def __len__(self) -> int:
        """Bytes of the whole archive."""
        return archive_size(self.files)

    def chunks(self) -> Iterator[bytes]:
        """The archive's bytes. Raises CommandError if a file changes meanwhile."""
        try:
            yield from archive_chunks(self.files)
        except FileChanged as error:
            raise CommandError(f"{error}; try again when it is complete") from None


def _files_of_folder(folder: Path) -> Iterator[ArchivedFile]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in _IGNORED:
            continue
        if entry.is_dir() and not entry.is_symlink():
            for file in _files_of_folder(entry):
                yield ArchivedFile(file.path, f"{entry.name}/{file.name}", file.size)
        elif entry.is_file():
            yield _archived(entry, entry.name)
        else:
            kind = "a link to a folder" if entry.is_dir() else "neither a file nor a folder"
            raise CommandError(f"{entry} is {kind}; a version holds regular files and folders only")


def _files_of_model(model: Path) -> Iterator[ArchivedFile]:
    if not model.is_file():
        raise CommandError(f"{model} is neither a folder nor a file; name a version's folder, or its {MODEL_FILE}")
    refuse_outside(model)  # a model made by others must not make this send other files
    yield _archived(model, MODEL_FILE)
    for name in read_onnx_file(model).external:
        file = model.parent / name
        if not file.is_file():
            raise CommandError(f"{model}: {name}, which holds weights of it, is missing in {model.parent}")
        yield _archived(file, name)


def _archived(path: Path, name: str) -> ArchivedFile:
    if not name.isprintable():
        raise CommandError(f"the name {str(path)!r} holds characters that do not belong in one; rename it")
    return ArchivedFile(path, name, path.stat().st_size)
