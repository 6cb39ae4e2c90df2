"""The tar archive of a version's folder, made as it is sent."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.digest import refuse_outside
from gateway.backends.onnx_file import read_onnx_file
from gateway.cli.refusal import CommandError

ARCHIVE_TYPE: Final = "application/x-tar"
MODEL_FILE: Final = "model.onnx"
CHUNK_BYTES: Final = 1 << 20
_IGNORED: Final = frozenset(("__pycache__",))


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file to send: its path here, its name in the archive, its size in bytes."""

    path: Path
    name: str
    size: int

    def header(self) -> bytes:
        """The tar header. Times and owners are left out: the same files make the same archive."""
        entry = tarfile.TarInfo(self.name)
        entry.size = self.size
        return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


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
        return sum(len(file.header()) + file.size + -file.size % tarfile.BLOCKSIZE for file in self.files) + _END

    def chunks(self) -> Iterator[bytes]:
        """The archive's bytes. Raises CommandError if a file changes meanwhile."""
        for file in self.files:
            yield file.header()
            with file.path.open("rb") as opened:
                left = file.size
                while left and (chunk := opened.read(min(left, CHUNK_BYTES))):
                    left -= len(chunk)
                    yield chunk
                if left or opened.read(1):
                    raise CommandError(f"{file.path} is being written; try again when it is complete")
            yield bytes(-file.size % tarfile.BLOCKSIZE)
        yield bytes(_END)


_END: Final = 2 * tarfile.BLOCKSIZE


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
