"""Small files of the state folder that are replaced whole: what a crash or a full disk leaves is the old or the new."""

import os
from pathlib import Path


def replace_durably(path: Path, content: bytes, beside: str = "new") -> None:
    """Put this in the file's place, on the disk when it returns. Raises OSError.

    `beside`: what the unfinished file is called by, where several processes may write at once.
    """
    unfinished = path.with_name(f"{path.name}.{beside}")
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
