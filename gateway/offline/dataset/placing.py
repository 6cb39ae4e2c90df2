"""Puts an export in its folder in one step; what is there stays until the new one is complete."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError
from gateway.offline.dataset.manifest_file import MANIFEST, MANIFESTS, read_manifest

UNFINISHED: Final = ".unfinished"
LOCK: Final = ".unfinished.lock"  # while an export writes; the kernel frees the lock of one that was killed
_REPLACED: Final = "replaced"  # what the finished files take the place of, until they are there
_OWN: Final = frozenset({UNFINISHED, LOCK})


@contextmanager
def unfinished(out: Path, model: str) -> Iterator[Path]:
    """A folder inside `out` for an export of `model` in the making, which nothing else writes to meanwhile.

    It is removed at the end, and `out` too if it was made for it and nothing has come into it. Raises GatewayError if
    another export is writing to `out`, or `out` holds anything but an export of `model`, and OSError.
    """
    if out.exists() and not out.is_dir():
        raise GatewayError(f"{out} is a file; name a folder for the data set")
    if out.is_symlink() and not out.exists():
        raise GatewayError(f"{out} is a link to what is not there; name a folder for the data set")
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    folder = out / UNFINISHED
    try:
        with _locked(out):
            _put_back(out, folder, model)
            _check_replaceable(out, model)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        if made:
            with suppress(OSError):  # it is not empty
                out.rmdir()


def replace_export(out: Path, folder: Path, model: str, manifest: bytes) -> None:
    """Move the finished files to `out`. Raises OSError; what was there is there again then.

    The manifest goes first and comes last, because it marks a complete export; nothing is deleted before.
    """
    data, aside = _data(model), folder / _REPLACED
    (folder / MANIFEST).write_bytes(manifest)
    aside.mkdir()
    try:
        for name in (*MANIFESTS, data):
            if (out / name).exists():
                (out / name).rename(aside / name)
        if (folder / data).exists():
            (folder / data).rename(out / data)
        (folder / MANIFEST).rename(out / MANIFEST)
    except BaseException:
        _put_back(out, folder, model)
        raise


def _check_replaceable(out: Path, model: str) -> None:
    """Raise GatewayError unless the folder `out` is empty, or an export of `model` and nothing else."""
    if all(entry.name in _OWN for entry in out.iterdir()):
        return
    earlier = read_manifest(out)
    if earlier is None:
        raise GatewayError(f"{out} contains something other than an export; name a new or empty folder")
    if earlier["model"] != model:
        raise GatewayError(f"{out} holds an export of '{earlier['model']}'; name another folder for '{model}'")
    strangers = _files(out) - {*MANIFESTS, *(part["path"] for part in earlier["files"])}
    if strangers:
        raise GatewayError(
            f"{out} holds {min(strangers)}, which the export there does not list; move it away, or name another folder"
        )


def _put_back(out: Path, folder: Path, model: str) -> None:
    """Undo a replacement that did not come to its end."""
    aside, data = folder / _REPLACED, _data(model)
    if not aside.is_dir() or (out / MANIFEST).exists():
        return
    if (aside / data).exists() or not any(aside.iterdir()):  # else what is there is the old
        shutil.rmtree(out / data, ignore_errors=True)
    for name in (data, *MANIFESTS):
        if (aside / name).exists():
            (aside / name).rename(out / name)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    lock = out / LOCK
    opened = _lock(lock)
    while opened is None:
        opened = _lock(lock)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(opened)


def _lock(lock: Path) -> int | None:
    """The locked file; None if another has removed it meanwhile. Raises GatewayError if another holds it."""
    opened = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):  # a file system without locks; one that is held is a BlockingIOError
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise GatewayError(
                    f"another export is writing to {lock.parent}; wait for its end, or name another folder"
                ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(opened), lock.stat()):
                return opened
    except BaseException:
        os.close(opened)
        raise
    os.close(opened)
    return None


def _data(model: str) -> str:
    return f"model={model}"


def _files(out: Path) -> set[str]:
    paths = (path.relative_to(out) for path in out.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in paths if path.parts[0] not in _OWN}
