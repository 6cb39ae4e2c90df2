"""Puts an export in its folder in one step; what is there stays until the new one is complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError
from gateway.offline.dataset.manifest_file import MANIFEST, MANIFESTS, read_manifest

UNFINISHED: Final = ".unfinished"


def check_replaceable(out: Path, model: str) -> None:
    """Raise GatewayError unless `out` is missing, empty, or an export of `model` and nothing else."""
    if out.exists() and not out.is_dir():
        raise GatewayError(f"{out} is a file; name a folder for the data set")
    if not out.is_dir() or not any(entry.name != UNFINISHED for entry in out.iterdir()):
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


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder inside `out` for an export in the making; it is removed at the end, and `out` too if it is empty."""
    folder = out / UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(out.iterdir()):
            out.rmdir()


def replace_export(out: Path, folder: Path, model: str, manifest: bytes) -> None:
    """Move the finished files to `out`. The manifest is removed first and written last, because it marks a complete
    export.
    """
    for earlier in MANIFESTS:
        (out / earlier).unlink(missing_ok=True)
    name = f"model={model}"
    shutil.rmtree(out / name, ignore_errors=True)
    if (folder / name).exists():
        (folder / name).rename(out / name)
    (out / MANIFEST).write_bytes(manifest)


def _files(out: Path) -> set[str]:
    paths = (path.relative_to(out) for path in out.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in paths if path.parts[0] != UNFINISHED}
