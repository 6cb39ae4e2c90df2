"""The process that makes a data set or an analysis for the control plane: `python -m gateway.offline.job`.

A process of its own at a low priority, since it computes for seconds or minutes. It ends when control closes its
end of the pipe, whether it was killed or its client has gone. What it writes until then is in the job's folder.
"""

import contextlib
import errno
import io
import os
import shutil
import signal
import sqlite3
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from gateway.errors import GatewayError, NotReady, RequestError, Unimplemented
from gateway.records.job import JobHead, RecordsJob, parse_job
from gateway.records.time_range import TimeRange
from gateway.system.scheduling import lower_priority
from gateway.system.tar_archive import ArchivedFile, archive_chunks, archive_size

if TYPE_CHECKING:
    from gateway.offline.analysis.analyzer import Analysis

FIRST_TO_GO: Final = b"1000"  # oom_score_adj: when memory is short, the kernel kills this process first
TEXT_WIDTH: Final = 120  # columns of an analysis as text
CONFLICT: Final = 409
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
INTERNAL_ERROR: Final = "it could not be made; the gateway's log has the details"
NEEDS_PYARROW: Final = (
    "data sets need pyarrow on the gateway's machine: pip install pyarrow, or the extra [data] of canary-gateway"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What a job has made: `size` bytes in all."""

    size: int
    chunks: Iterator[bytes]


def make(job: RecordsJob) -> Result:
    """Do the job. Raises GatewayError, OSError."""
    from gateway.offline.disk_space import check_space

    scratch = Path(job.scratch)
    scratch.mkdir(mode=0o700, parents=True)
    check_space(scratch)
    tempfile.tempdir = str(scratch)
    return _dataset(job, scratch) if job.kind == "dataset" else _analysis(job, scratch)


def _dataset(job: RecordsJob, scratch: Path) -> Result:
    if find_spec("pyarrow") is None:
        raise Unimplemented(NEEDS_PYARROW)
    from gateway.offline.dataset.export import ExportSource, Meters, export
    from gateway.offline.dataset.form import Form
    from gateway.offline.dataset.manifest_file import MANIFEST
    from gateway.offline.disk_space import checking_space
    from gateway.offline.reader import Query
    from gateway.offline.recorded_model import RecordedModel

    recorded = RecordedModel(Path(job.state), Path(job.models), job.model)
    time_range = TimeRange(job.since_ns, job.until_ns)
    query = Query(job.model, time_range, job.variant, job.with_feedback, job.feedback_until_ns)
    out = scratch / "dataset"
    checked = checking_space(scratch)
    source = ExportSource(recorded.records, recorded.raw_input, recorded.predicting, recorded.features)
    export(source, query, out, Form(job.format, job.flat), Meters(checked, checked, checked))
    paths = sorted((path for path in out.rglob("*") if path.is_file()), key=lambda path: (path.name != MANIFEST, path))
    files = [ArchivedFile(path, path.relative_to(out).as_posix(), path.stat().st_size) for path in paths]
    return Result(archive_size(files), archive_chunks(files))


def _analysis(job: RecordsJob, scratch: Path) -> Result:
    from gateway.offline.analysis.analyzer import Subject, analyse
    from gateway.offline.disk_space import checking_space
    from gateway.offline.reader import Query
    from gateway.offline.recorded_model import RecordedModel

    recorded = RecordedModel(Path(job.state), Path(job.models), job.model)
    query = Query(job.model, TimeRange(job.since_ns, job.until_ns), feedback_until_ns=job.feedback_until_ns)
    subject = Subject(
        recorded.records, query, recorded.predicting, recorded.raw_input, recorded.features, ranges=recorded.ranges
    )
    checked = checking_space(scratch)
    content = _rendered(analyse(subject, checked, checked), job.format)
    return Result(len(content), iter((content,)))


def _rendered(analysis: "Analysis", form: str) -> bytes:
    if form == "json":
        from gateway.offline.analysis.json_report import document

        return document(analysis)
    if form == "html":
        from gateway.offline.analysis.html_report import page

        return page(analysis).encode()
    from rich.console import Console

    from gateway.offline.analysis.terminal_report import tables

    text = io.StringIO()
    console = Console(file=text, width=TEXT_WIDTH, color_system=None)
    for table in tables(analysis):
        console.print(table)
    return text.getvalue().encode()


def serve(given: BinaryIO, answer: BinaryIO) -> None:
    """Read a job, do it, and write its head and its result; a failure is a head, too."""
    job = parse_job(given.readline())
    threading.Thread(target=_end_with_control, args=(given,), name="control", daemon=True).start()
    try:
        try:
            result = make(job)
        except Exception as error:  # whatever it is, the client is to be told
            answer.write(_failure(error).line())
            return
        answer.write(JobHead(200, result.size).line())
        for chunk in result.chunks:
            answer.write(chunk)
        answer.flush()
    finally:
        shutil.rmtree(job.scratch, ignore_errors=True)


def _failure(error: Exception) -> JobHead:
    if isinstance(error, RequestError):
        return JobHead(error.status, error=str(error))
    if isinstance(error, GatewayError):
        return JobHead(CONFLICT, error=str(error))
    full = isinstance(error, OSError) and error.errno in FULL
    if full or isinstance(error, sqlite3.OperationalError):
        return JobHead(NotReady.status, error=f"the gateway's state folder cannot be written: {error}")
    traceback.print_exception(error)
    if isinstance(error, MemoryError):
        return JobHead(NotReady.status, error="the gateway's machine has too little memory; choose a shorter period")
    return JobHead(500, error=INTERNAL_ERROR)


def _end_with_control(given: BinaryIO) -> None:
    """End the process once control has closed the pipe."""
    with contextlib.suppress(OSError):
        given.read()
    os._exit(1)


def main() -> None:
    """Entry point; standard input and output are pipes to control."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for control, which ends this process
    lower_priority(os.getpid(), for_good=True)  # control has done so before: a tenth of what a worker gets of a core
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(FIRST_TO_GO)
    with os.fdopen(os.dup(0), "rb") as given, os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what a library prints is for the log
        with contextlib.suppress(BrokenPipeError):
            serve(given, answer)


if __name__ == "__main__":
    main()
