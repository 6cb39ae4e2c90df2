"""The process that makes a data set, an analysis or a trace for the control plane: `python -m gateway.offline.job`.

A process of its own at a low priority, since it computes for seconds or minutes; then it becomes the one that sends
the result (job_sender.py). It ends when control closes its end of the pipe, whether it was killed or its client has
gone. What it writes until then is in the job's folder.
"""

import contextlib
import errno
import io
import os
import shutil
import signal
import sqlite3
import tempfile
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import orjson

from gateway.errors import GatewayError, NotReady, RequestError, Unimplemented
from gateway.offline.job_result import ANSWER, DATASET, MISSING
from gateway.offline.job_sender import become_sender, end_with_control
from gateway.records.job import JobHead, RecordsJob, parse_job
from gateway.records.time_range import TimeRange
from gateway.system.scheduling import lower_priority

if TYPE_CHECKING:
    from gateway.offline.analysis.analyzer import Analysis

FIRST_TO_GO: Final = b"1000"  # oom_score_adj: when memory is short, the kernel kills this process first
TEXT_WIDTH: Final = 120  # columns of an analysis as text
CONFLICT: Final = 409
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
IF_ELSEWHERE: Final = "ask the gateway that answered the prediction"
INTERNAL_ERROR: Final = "it could not be made; the gateway's log has the details"
NEEDS_PYARROW: Final = (
    "data sets need pyarrow on the gateway's machine: pip install pyarrow, or the extra [data] of canary-gateway"
)


def make(job: RecordsJob) -> None:
    """Do the job; the result is in its folder then (job_result.py). Raises GatewayError, OSError."""
    from gateway.offline.disk_space import check_space

    scratch = Path(job.scratch)
    scratch.mkdir(mode=0o700, parents=True)
    check_space(scratch)
    tempfile.tempdir = str(scratch)
    {"dataset": _make_dataset, "analysis": _make_analysis, "trace": _make_trace}[job.kind](job, scratch)


def _make_dataset(job: RecordsJob, scratch: Path) -> None:
    if find_spec("pyarrow") is None:
        raise Unimplemented(NEEDS_PYARROW)
    from gateway.offline.dataset.export import ExportSource, Meters, export
    from gateway.offline.dataset.form import Form
    from gateway.offline.disk_space import checking_space
    from gateway.offline.reader import Query
    from gateway.offline.recorded_model import RecordedModel

    recorded = RecordedModel([Path(job.state) / "records"], Path(job.models), job.model)
    time_range = TimeRange(job.since_ns, job.until_ns)
    query = Query(job.model, time_range, job.variant, job.with_feedback, job.feedback_until_ns)
    checked = checking_space(scratch)
    source = ExportSource(recorded.records, recorded.raw_input, recorded.predicting, recorded.features)
    export(source, query, scratch / DATASET, Form(job.format, job.flat), Meters(checked, checked, checked))


def _make_analysis(job: RecordsJob, scratch: Path) -> None:
    from gateway.offline.analysis.analyzer import Subject, analyse
    from gateway.offline.disk_space import checking_space
    from gateway.offline.reader import Query
    from gateway.offline.recorded_model import RecordedModel

    recorded = RecordedModel([Path(job.state) / "records"], Path(job.models), job.model)
    query = Query(job.model, TimeRange(job.since_ns, job.until_ns), feedback_until_ns=job.feedback_until_ns)
    subject = Subject(
        recorded.records, query, recorded.predicting, recorded.raw_input, recorded.features, ranges=recorded.ranges
    )
    checked = checking_space(scratch)
    (scratch / ANSWER).write_bytes(_rendered(analyse(subject, checked, checked), job.format))


def _make_trace(job: RecordsJob, scratch: Path) -> None:
    from gateway.offline.reader import records_in
    from gateway.offline.trace.document import no_record, traced
    from gateway.offline.trace.trace import Meters, Settings

    state = Path(job.state)
    settings = Settings(
        state=state,
        sample=job.sample,
        retain_bytes=job.retain_bytes,
        in_fleet=job.in_fleet,
        if_elsewhere=IF_ELSEWHERE,
    )
    unseen = Meters(*[lambda size: None] * 3)
    found = traced(job.prediction_id, records_in(state / "records"), Path(job.models), settings, unseen)
    if problem := no_record(found):
        (scratch / MISSING).write_bytes(orjson.dumps({"error": problem, **found}))
    else:
        (scratch / ANSWER).write_bytes(orjson.dumps(found))


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
    """Read a job, do it, and become the process that sends its result. If that fails, write a head that says why."""
    job = parse_job(given.readline())
    end_with_control()
    try:
        make(job)
        os.dup2(answer.fileno(), 1)
        become_sender(Path(job.scratch))
    except Exception as error:  # whatever it is, the client is to be told
        answer.write(_failure(error, job.remedy).line())
    finally:
        shutil.rmtree(job.scratch, ignore_errors=True)


def _failure(error: Exception, remedy: str) -> JobHead:
    if isinstance(error, RequestError):
        return JobHead(error.status, error=str(error))
    if isinstance(error, GatewayError):
        return JobHead(CONFLICT, error=str(error))
    full = isinstance(error, OSError) and error.errno in FULL
    if full or isinstance(error, sqlite3.OperationalError):
        return JobHead(NotReady.status, error=f"the gateway's state folder cannot be written: {error}")
    traceback.print_exception(error)
    if isinstance(error, MemoryError):
        return JobHead(NotReady.status, error=f"the gateway's machine has too little memory; {remedy}")
    return JobHead(500, error=INTERNAL_ERROR)


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
