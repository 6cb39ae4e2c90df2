"""Fetches data sets, analyses and traces from the control plane of a running gateway."""

import hashlib
import re
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast

import httpx
import orjson
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.backends.not_served import MODEL_NAME
from gateway.cli.control_client import ControlAddress, control_client, raise_refusal, told_of_failures
from gateway.cli.disk_errors import told_of_disk
from gateway.cli.refusal import CommandError
from gateway.control.proposals.tar_stream import FileBegin, FileContent, FileEnd, TarStream
from gateway.errors import InvalidRequest
from gateway.offline.dataset.manifest_file import MANIFEST, has_summary, read_manifest
from gateway.offline.dataset.placing import replace_export, unfinished
from gateway.records.trace_document import TraceDocument

TIMEOUT_S: Final = httpx.Timeout(60.0, read=2400.0)  # the first byte comes once all is made
BUSY_WITHIN_S: Final = 1800.0  # for a gateway that makes others' data sets first
MIN_RETRY_S: Final = 1.0  # whatever the answer says
FOUND, NOT_FOUND, BUSY = 200, 404, 503
NO_TRACE: Final = "the gateway answers with a document that is no trace; is it of another release than this command?"
_FILE: Final = re.compile(r"date=[0-9]{4}-[0-9]{2}-[0-9]{2}/part-[0-9]{5}\.(parquet|jsonl|csv)")
Parameters = Mapping[str, str | None]


def fetch_dataset(control: ControlAddress, model: str, parameters: Parameters, out: Path) -> None:
    """Put the data set into the folder `out`, in the place of an earlier export there, once all of it has come.

    Raises CommandError, GatewayError.
    """
    _check_name(model)
    with (
        told_of_disk(out),
        unfinished(out, model) as folder,
        _answered(control, f"/api/datasets/{model}", parameters, f"waiting for the data set of {model}") as answer,
        _Received(folder, model) as received,
    ):
        for chunk in answer:
            received.write(chunk)
        replace_export(out, folder, model, received.checked_manifest())


def fetch_analysis(control: ControlAddress, model: str, parameters: Parameters) -> bytes:
    """The analysis. Raises CommandError."""
    _check_name(model)
    with _answered(control, f"/api/analyses/{model}", parameters, f"waiting for the analysis of {model}") as answer:
        return b"".join(answer)


def fetch_trace(control: ControlAddress, prediction_id: str) -> TraceDocument:
    """The trace of an id; also if the prediction has no record. Raises CommandError."""
    if not prediction_id.isascii() or not prediction_id.replace("-", "").replace("_", "").isalnum():
        raise CommandError("prediction_id must be the text in the prediction's response")
    path, found = f"/api/traces/{prediction_id}", (FOUND, NOT_FOUND)
    with _answered(control, path, {}, "waiting for the trace", found) as answer:
        document = orjson.loads(b"".join(answer))
    try:
        TypeAdapter(TraceDocument).validate_python(document)
    except ValidationError:
        error = document.get("error") if isinstance(document, dict) else None
        raise CommandError(error if isinstance(error, str) else NO_TRACE) from None
    document.pop("error", None)  # beside the trace of a prediction without a record
    return cast("TraceDocument", document)


def _check_name(model: str) -> None:
    if not MODEL_NAME.fullmatch(model):
        raise CommandError(f"{model!r:.80} is no model's name; names are letters, digits, '_', '-' and '.'")


@contextmanager
def _answered(
    control: ControlAddress, path: str, parameters: Parameters, waiting: str, statuses: Container[int] = (FOUND,)
) -> Iterator[Iterator[bytes]]:
    """The bytes of an answer with one of these statuses, with a progress bar. Waits while the gateway is busy."""
    given = {name: value for name, value in parameters.items() if value is not None}
    end_s = time.monotonic() + BUSY_WITHIN_S
    with control_client(control) as client, told_of_failures(client), _progress() as progress:
        task = progress.add_task(waiting, total=None)
        while True:
            with client.stream("GET", path, params=given, timeout=TIMEOUT_S) as answer:
                if answer.status_code in statuses:
                    yield _shown(answer, progress, task)
                    return
                answer.read()
            wait_s = _retry_after_s(answer)
            if wait_s is None or time.monotonic() + wait_s > end_s:
                raise_refusal(answer)
            else:
                time.sleep(wait_s)


def _retry_after_s(answer: httpx.Response) -> float | None:
    """When to ask again; None if that is of no use."""
    after = answer.headers.get("retry-after", "")
    if answer.status_code != BUSY or not re.fullmatch("[0-9]{1,3}", after):
        return None
    return max(MIN_RETRY_S, float(after))


def _shown(answer: httpx.Response, progress: Progress, task: Any) -> Iterator[bytes]:
    announced = answer.headers.get("content-length", "")
    total = int(announced) if announced.isdecimal() else None
    progress.update(task, description="receiving", total=total)
    try:
        for chunk in answer.iter_bytes():
            yield chunk
            progress.update(task, completed=answer.num_bytes_downloaded)
    except httpx.TransportError as error:
        of = "" if total is None else f" of {total:,}"
        raise CommandError(
            f"the connection broke after {answer.num_bytes_downloaded:,}{of} bytes ({error}); nothing of it is kept,"
            " and what was there is as before"
        ) from None


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class _Received:
    """Writes the files of a data set's archive into `folder`, and checks them. A context manager."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._model = model
        self._tar = TarStream()
        self._stack = ExitStack()
        self._file: IO[bytes] | None = None
        self._name = ""
        self._hash = hashlib.sha256()
        self._found: dict[str, str] = {}

    def __enter__(self) -> "_Received":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, chunk: bytes) -> None:
        """Write what the next bytes of the archive hold. Raises CommandError."""
        try:
            for event in self._tar.feed(chunk):
                if isinstance(event, FileBegin):
                    self._begin(event.name)
                elif isinstance(event, FileContent):
                    assert self._file is not None
                    self._file.write(event.content)
                    self._hash.update(event.content)
                elif isinstance(event, FileEnd):
                    assert self._file is not None
                    self._file.close()
                    self._found[self._name] = self._hash.hexdigest()
        except InvalidRequest as error:
            raise CommandError(f"the answer is no data set: {error}") from None

    def checked_manifest(self) -> bytes:
        """The manifest, if all has come that it lists. Raises CommandError."""
        manifest = read_manifest(self._folder) if MANIFEST in self._found else None
        listed = {} if manifest is None else {part["path"]: part["sha256"] for part in manifest["files"]}
        complete = self._tar.complete and self._found.keys() == {MANIFEST, *listed}
        if manifest is None or not complete or manifest["model"] != self._model:
            raise CommandError("the answer is no complete data set; nothing of it is kept")
        if not has_summary(manifest):
            raise CommandError(
                f"the data set's {MANIFEST} is none of this release; nothing of it is kept: use the gateway's release"
            )
        for name, sha256 in listed.items():
            if self._found[name] != sha256:
                raise CommandError(f"{name} has come damaged; nothing of the data set is kept: try again")
        return (self._folder / MANIFEST).read_bytes()

    def _begin(self, name: str) -> None:
        folder, _, rest = name.partition("/")
        if name != MANIFEST and (folder != f"model={self._model}" or not _FILE.fullmatch(rest)):
            raise InvalidRequest(f"it holds {name!r:.200}")
        if name in self._found:
            raise InvalidRequest(f"it holds {name} twice")
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")
        self._name, self._hash = name, hashlib.sha256()
