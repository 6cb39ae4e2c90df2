"""Reads feedback from CSV, JSON Lines and Parquet files, row by row, so that a file need not fit in memory; and from
exports of Label Studio, which must.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import orjson

from gateway.errors import GatewayError
from gateway.offline.feedback.fields import KEYS, PREDICTION_ID, Columns, Entry, entry_of
from gateway.offline.feedback.label_studio import entries_of

_BATCH: Final = 8192  # rows of a Parquet file in memory
_FIRST_OF_NUMBERS_AND_JSON: Final = frozenset("-0123456789[{")
NEEDS_PYARROW: Final = "a Parquet file needs pyarrow: pip install pyarrow, or the extra [data] of canary-gateway"


class Format(StrEnum):
    """The formats of a file with feedback."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    LABEL_STUDIO = "label-studio"


_EXTENSIONS: Final = {
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".json": Format.LABEL_STUDIO,
}


def format_of(path: Path) -> Format:
    """The format by the file's extension. Raises GatewayError if it has another one."""
    found = _EXTENSIONS.get(path.suffix.lower())
    if found is None:
        raise GatewayError(
            f"{path}: its name does not say its format; give --format csv, jsonl, parquet or label-studio"
        )
    return found


class FeedbackFile:
    """A file of feedback, as a context manager. `total` and `position()`: how much there is and has been read, in bytes
    or, of Parquet, in rows. `left_out`: what holds no feedback yet, by reason.
    """

    def __init__(self, path: Path, kind: Format, columns: Columns) -> None:
        self._path = path
        self._kind = kind
        self._columns = columns
        self._stack = ExitStack()
        self._file: BinaryIO = self._stack.enter_context(path.open("rb"))
        self._rows = 0
        self.left_out: Counter[str] = Counter()
        try:
            self._parquet: Any = _parquet_file(self._file, path) if kind is Format.PARQUET else None
        except GatewayError:
            self._file.close()
            raise
        self.total = path.stat().st_size if self._parquet is None else int(self._parquet.metadata.num_rows)

    def __enter__(self) -> "FeedbackFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def position(self) -> int:
        """How much of `total` has been read."""
        return self._file.tell() if self._parquet is None else self._rows

    def entries(self) -> Iterator[Entry]:
        """Yield an entry for each row. Raises GatewayError if the file or its columns cannot be read."""
        readers = {
            Format.CSV: self._of_csv,
            Format.JSONL: self._of_jsonl,
            Format.PARQUET: self._of_parquet,
            Format.LABEL_STUDIO: self._of_label_studio,
        }
        yield from readers[self._kind]()

    def _of_csv(self) -> Iterator[Entry]:
        text = io.TextIOWrapper(self._file, encoding="utf-8-sig", newline="")
        self._stack.callback(text.detach)
        reader = csv.reader(text, strict=True)
        try:
            names = next(reader, None)
            if not names:
                raise GatewayError(f"{self._path} is empty: its first line must name the columns")
            self._columns.check(names)
            fields = self._columns.fields_of(names)
            before = reader.line_num
            for cells in reader:
                line, before = before + 1, reader.line_num
                if len(cells) == len(names):
                    entry = entry_of(line, fields, _values(fields, cells))
                    if PREDICTION_ID in entry.fields and entry.fields.keys() <= KEYS:
                        self.left_out["left empty"] += 1  # of a file to be filled in, such as that of --to-label
                    else:
                        yield entry
                elif cells:
                    yield Entry(line, {}, f"has {len(cells)} cells, but the first line names {len(names)} columns")
        except csv.Error as error:
            raise GatewayError(f"{self._path}, line {reader.line_num}: {error}") from None
        except UnicodeDecodeError as error:
            raise GatewayError(f"{self._path}, about line {reader.line_num}: is not UTF-8: {error.reason}") from None

    def _of_jsonl(self) -> Iterator[Entry]:
        for line, text in enumerate(self._file, 1):
            if not text.strip():
                continue
            try:
                document = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                yield Entry(line, {}, f"is not valid JSON: {error}")
                continue
            if type(document) is dict:
                yield entry_of(line, self._columns.fields_of(list(document)), list(document.values()))
            else:
                yield Entry(line, {}, "must be a JSON object")

    def _of_label_studio(self) -> Iterator[Entry]:
        try:
            document = orjson.loads(self._file.read())
        except orjson.JSONDecodeError as error:
            raise GatewayError(f"{self._path} is not valid JSON: {error}; of JSON Lines, say --format jsonl") from None
        yield from entries_of(document, self._columns, self.left_out)

    def _of_parquet(self) -> Iterator[Entry]:
        file = self._parquet
        names = list(file.schema_arrow.names)
        self._columns.check(names)
        used = [name for name, found in zip(names, self._columns.fields_of(names), strict=True) if found]
        fields = self._columns.fields_of(used)
        for batch in file.iter_batches(batch_size=_BATCH, columns=used):
            lists = [batch.column(name).to_pylist() for name in used]
            for values in zip(*lists, strict=True):
                self._rows += 1
                yield entry_of(self._rows, fields, values)


def _parquet_file(file: BinaryIO, path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise GatewayError(NEEDS_PYARROW) from None
    try:
        return ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise GatewayError(f"{path} is not a Parquet file: {error}") from None


def _values(fields: Sequence[str | None], cells: Sequence[str]) -> list[Any]:
    """The values of a CSV row: ids and comments are text; others numbers, JSON lists or objects, or else text."""
    return [
        (cell or None) if name is None or name in ("prediction_id", "comment") else _value(cell)
        for name, cell in zip(fields, cells, strict=True)
    ]


def _value(cell: str) -> Any:
    if cell[:1] not in _FIRST_OF_NUMBERS_AND_JSON:
        return cell or None
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell
