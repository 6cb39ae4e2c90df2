"""Where a job's result lies in its folder, and its bytes as the client gets them.

`dataset/` is the folder of an export, sent as a tar; `answer` is an analysis, sent as it is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.system.tar_archive import ArchivedFile, archive_chunks, archive_size

DATASET: Final = "dataset"
ANSWER: Final = "answer"


def result_size(folder: Path) -> int:
    """Bytes of the result in a job's folder."""
    answer = folder / ANSWER
    return answer.stat().st_size if answer.exists() else archive_size(_files(folder / DATASET))


def result_chunks(folder: Path) -> Iterator[bytes]:
    """The result's bytes."""
    answer = folder / ANSWER
    if answer.exists():
        yield answer.read_bytes()
    else:
        yield from archive_chunks(_files(folder / DATASET))


def _files(out: Path) -> list[ArchivedFile]:
    """The files of an export, the manifest first."""
    paths = sorted((path for path in out.rglob("*") if path.is_file()), key=lambda path: (path.parent != out, path))
    return [ArchivedFile(path, path.relative_to(out).as_posix(), path.stat().st_size) for path in paths]
