"""Where a job's result lies in its folder, and its bytes as the client gets them.

`dataset/` is the folder of an export, sent as a tar; `answer` is an analysis or a trace, sent as it is; `missing` is a
trace without a record, sent as 404.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.records.job import JobHead
from gateway.system.tar_archive import ArchivedFile, archive_chunks, archive_size

DATASET: Final = "dataset"
ANSWER: Final = "answer"
MISSING: Final = "missing"
PIECE_BYTES: Final = 1 << 20  # in memory at a time: a trace holds what 100 feedbacks say, which may be much


def result_head(folder: Path) -> JobHead:
    """The status and the size of the result in a job's folder."""
    answer = _answer(folder)
    size = archive_size(_files(folder / DATASET)) if answer is None else answer.stat().st_size
    return JobHead(404 if answer is not None and answer.name == MISSING else 200, size)


def result_chunks(folder: Path) -> Iterator[bytes]:
    """The result's bytes."""
    if (answer := _answer(folder)) is not None:
        with answer.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    else:
        yield from archive_chunks(_files(folder / DATASET))


def _answer(folder: Path) -> Path | None:
    """The file that is sent as it is, if the result is one."""
    return next((file for file in (folder / ANSWER, folder / MISSING) if file.exists()), None)


def _files(out: Path) -> list[ArchivedFile]:
    """The files of an export, the manifest first."""
    paths = sorted((path for path in out.rglob("*") if path.is_file()), key=lambda path: (path.parent != out, path))
    return [ArchivedFile(path, path.relative_to(out).as_posix(), path.stat().st_size) for path in paths]
