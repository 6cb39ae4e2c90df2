"""Writes the files of an export, partitioned like Hive tables: FOLDER/model=NAME/date=YYYY-MM-DD/part-00000.parquet."""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from gateway.offline.dataset.content_hash import ContentHash
from gateway.offline.dataset.schema import Tensors
from gateway.offline.feedback_store import StoredFeedback
from gateway.protocol.elements import to_json
from gateway.records.prediction import Prediction
from gateway.records.time_range import format_time

NO_DICTIONARY: Final = ("prediction_id", "request_sha256", "trace_id", "request_id")
GROUP_ROWS: Final = 16_384  # rows that are compressed together
GROUP_BYTES: Final = 32 * 1024**2
PART_ROWS: Final = 1_000_000
PART_BYTES: Final = 512 * 1024**2  # before compression
OPEN_DATES: Final = 2  # records are nearly in the order of time, so two dates alternate around midnight


class RowBuffer(Protocol):
    """Rows to write together. `bytes`: their approximate size."""

    bytes: int

    def __len__(self) -> int: ...

    def add(self, prediction: Prediction, tensors: Tensors, feedback: StoredFeedback) -> int:
        """Add the rows of a prediction; return how many these are."""

    def batch(self) -> Any:
        """Return the rows as one Arrow record batch."""


class TableLayout(Protocol):
    """The columns of an export."""

    @property
    def schema(self) -> Any:
        """The Arrow schema."""

    def rows(self) -> RowBuffer:
        """An empty buffer of rows."""

    def described(self) -> dict[str, Any]:
        """What the manifest says of the columns beside their types."""


class Format(Protocol):
    """A file format: writes record batches to one file."""

    suffix: str

    def __init__(self, file: Path, schema: Any) -> None: ...

    def write(self, batch: Any) -> None:
        """Append the rows."""

    def close(self) -> None:
        """Complete the file."""


class Parquet:
    """Writes Parquet, compressed with Zstandard."""

    suffix = "parquet"

    def __init__(self, file: Path, schema: Any) -> None:
        words = [column.name for column in schema if pa.types.is_string(column.type)]
        words = [name for name in words if name not in NO_DICTIONARY]
        self._writer = pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=words)

    def write(self, batch: Any) -> None:
        self._writer.write_batch(batch, row_group_size=GROUP_ROWS)

    def close(self) -> None:
        self._writer.close()


class JsonLines:
    """Writes JSON Lines. Bytes are in Base64; non-finite numbers are "NaN", "Infinity" and "-Infinity", as in V2."""

    suffix = "jsonl"

    def __init__(self, file: Path, schema: Any) -> None:
        self._file = file.open("wb")

    def write(self, batch: Any) -> None:
        for row in batch.to_pylist(maps_as_pydicts="strict"):
            self._file.write(orjson.dumps({name: _spelt(value) for name, value in row.items()}) + b"\n")

    def close(self) -> None:
        self._file.close()


class Csv:
    """Writes CSV with a header; null is an empty field. For flat exports."""

    suffix = "csv"

    def __init__(self, file: Path, schema: Any) -> None:
        self._writer = pc.CSVWriter(file, schema)

    def write(self, batch: Any) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


FORMATS: Final[dict[str, type[Format]]] = {"parquet": Parquet, "jsonl": JsonLines, "csv": Csv}


def _spelt(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelt(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return to_json(np.array([value]), "FP64")[0]
    return value


@dataclass(frozen=True, slots=True)
class Part:
    """A complete file of an export. `path` is relative to the folder of the export."""

    path: str
    rows: int
    bytes: int
    sha256: str


class _PartWriter:
    """A file being written, and its buffered rows. `on_batch` is called with the rows that are written."""

    def __init__(self, file: Path, kind: type[Format], layout: TableLayout, on_batch: Callable[[Any], None]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self.waiting = layout.rows()
        self.rows = 0
        self._bytes = 0
        self._layout = layout
        self._on_batch = on_batch
        self._writer = kind(file, layout.schema)

    @property
    def full(self) -> bool:
        return self.rows >= PART_ROWS or self._bytes >= PART_BYTES

    def add(self, prediction: Prediction, tensors: Tensors, feedback: StoredFeedback) -> int:
        rows = self.waiting.add(prediction, tensors, feedback)
        self.rows += rows
        if len(self.waiting) >= GROUP_ROWS or self.waiting.bytes >= GROUP_BYTES:
            self._flush()
        return rows

    def close(self) -> None:
        if len(self.waiting):
            self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Close the file as it is, since it will not be complete."""
        with suppress(Exception):  # the disk may be full: what failed first is what counts
            self._writer.close()

    def _flush(self) -> None:
        batch = self.waiting.batch()
        self._writer.write(batch)
        self._on_batch(batch)
        self._bytes += self.waiting.bytes
        self.waiting = self._layout.rows()


class PartitionWriter:
    """Writes rows to the file of their date, below `folder`. A context manager: completes all files at its end, unless
    an error ends it.

    `content`: the hash of all that is written; `rows`: how many rows that are.
    """

    def __init__(self, folder: Path, model: str, kind: str, layout: TableLayout) -> None:
        self._folder = folder
        self._model = model
        self._kind = FORMATS[kind]
        self._layout = layout
        self.content = ContentHash(model, layout.schema)
        self.rows = 0
        self._open: dict[str, _PartWriter] = {}
        self._numbers: Counter[str] = Counter()
        self._file_rows: dict[Path, int] = {}

    def __enter__(self) -> "PartitionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for date in list(self._open):
                    self._complete(date)
        finally:
            for part in self._open.values():
                part.abandon()

    def add(self, prediction: Prediction, tensors: Tensors, feedback: StoredFeedback) -> int:
        """Write the rows of a prediction; return how many these are."""
        date = format_time(prediction.time_ns)[:10]
        part = self._open.pop(date, None)
        if part is None:
            part = self._begun(date)
        self._open[date] = part  # moved to the end: the first entry is the least recently used
        rows = part.add(prediction, tensors, feedback)
        self.rows += rows
        if part.full:
            self._complete(date)
        return rows

    def completed(self) -> Iterator[Part]:
        """Yield the complete files in the order of their paths. Call it after the context has ended."""
        for file in sorted(self._file_rows):
            with file.open("rb") as opened:
                sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
            yield Part(file.relative_to(self._folder).as_posix(), self._file_rows[file], file.stat().st_size, sha256)

    def _begun(self, date: str) -> _PartWriter:
        if len(self._open) == OPEN_DATES:
            self._complete(next(iter(self._open)))
        name = f"part-{self._numbers[date]:05}.{self._kind.suffix}"
        self._numbers[date] += 1
        file = self._folder / f"model={self._model}" / f"date={date}" / name
        return _PartWriter(file, self._kind, self._layout, partial(self.content.add, date))

    def _complete(self, date: str) -> None:
        part = self._open[date]
        part.close()
        del self._open[date]
        self._file_rows[part.file] = part.rows
