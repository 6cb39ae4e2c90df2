"""The file of rejected lines that `gateway feedback` writes."""

from contextlib import suppress
from pathlib import Path
from typing import IO

import click
import orjson

from gateway.cli.disk_errors import not_written, told_of_disk
from gateway.cli.refusal import CommandError
from gateway.offline.feedback.fields import Entry


class RejectedFile:
    """A context manager. `path`: None to write nothing; `source`: the file that is sent.

    What fails once lines may have been sent ends neither the sending nor the report on it: `problem` says what it was.
    """

    def __init__(self, path: Path | None, source: Path) -> None:
        self._path = path
        self._source = source
        self._file: IO[bytes] | None = None
        self.problem = ""

    def __enter__(self) -> "RejectedFile":
        """Raises CommandError if the file cannot be opened, or is the one that is sent."""
        if self._path is not None:
            with told_of_disk(self._path):
                if self._path.exists() and self._path.samefile(self._source):
                    raise CommandError(f"--rejected {self._path}: it is the file that is sent; name another one")
                self._file = self._path.open("wb")
        return self

    def write(self, entry: Entry, error: str) -> None:
        """Write one line."""
        if self._file is not None:
            document = {"line": entry.line, "error": error, **entry.fields}
            try:
                self._file.write(orjson.dumps(document, default=str, option=orjson.OPT_APPEND_NEWLINE))
            except OSError as failure:
                self._fail(self._file, failure)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failure:
                self._fail(self._file, failure)
        if kind is not None and self.problem:  # the command fails for another reason, and says that one
            click.echo(self.problem, err=True)

    def _fail(self, file: IO[bytes], failure: OSError) -> None:
        assert self._path is not None
        self.problem, self._file = not_written(self._path, failure), None
        with suppress(OSError):  # of what is still in the buffer
            file.close()
