"""Atomic replacement of small files in the state folder: a crash or a full disk leaves the old or the new content."""

import os
from pathlib import Path


def replace_durably(path: Path, content: bytes, suffix: str = "new") -> None:
    """Replace the file with `content` atomically; it is on disk on return. Raises OSError.

    `suffix`: suffix of the unfinished file; it must differ between processes that may write at the same time.
    """
    unfinished = path.with_name(f"{path.name}.{suffix}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
