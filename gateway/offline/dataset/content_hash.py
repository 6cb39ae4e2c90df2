"""The hash of an export's rows: the same whatever library wrote them, in which format, compression and files.

    row values    date by date, in the order of recording; each column has hashes of its own of its values, of which
                  of them are null, and of the lengths of lists and texts
    content       the SHA-256 of a JSON document: the model, the columns' names and types, and those hashes

Values are little-endian, as in Arrow; nothing is hashed in place of a null.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_NAMES: Final = {"float": "float32", "double": "float64", "halffloat": "float16"}  # pyarrow's names of its own types


def type_name(kind: Any) -> str:
    """The name of an Arrow type, which does not depend on pyarrow's release."""
    if pa.types.is_map(kind):
        return f"map<{type_name(kind.key_type)}, {type_name(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_timestamp(kind):
        return f"timestamp<{kind.unit}, {kind.tz}>"
    return _NAMES.get(str(kind), str(kind))


def column_types(schema: Any) -> dict[str, str]:
    """The columns' types, by name."""
    return {field.name: type_name(field.type) for field in schema}


class ContentHash:
    """Takes an export's rows, batch by batch, each of one date; batches of a date come in order."""

    def __init__(self, model: str, schema: Any) -> None:
        self._model = model
        self._columns = column_types(schema)
        self._dates: dict[str, dict[str, Any]] = {}

    def add(self, date: str, batch: Any) -> None:
        """Take the next rows of a date."""
        hashes = self._dates.setdefault(date, {})
        for number, column in enumerate(batch.columns):
            for place, content in _contents(column, str(number)):
                if place not in hashes:
                    hashes[place] = hashlib.sha256()
                hashes[place].update(content)

    def hexdigest(self) -> str:
        """The hash of all rows so far, in hexadecimal."""
        dates = {
            date: {place: found.hexdigest() for place, found in sorted(hashes.items())}
            for date, hashes in sorted(self._dates.items())
        }
        document: Mapping[str, Any] = {"model": self._model, "columns": list(self._columns.items()), "dates": dates}
        return hashlib.sha256(orjson.dumps(document)).hexdigest()


def _contents(array: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The bytes to hash of a column, each with the name of its hash; `place`: the column's number."""
    yield f"{place}?", _bytes(array.is_valid())
    array = array.drop_null()
    kind = array.type
    if pa.types.is_map(kind):
        offsets = np.asarray(array.offsets)
        yield f"{place}#", np.diff(offsets).astype("<i8")
        first, length = int(offsets[0]), int(offsets[-1] - offsets[0])
        yield from _contents(array.keys.slice(first, length), f"{place}.key")
        yield from _contents(array.items.slice(first, length), f"{place}.value")
    elif pa.types.is_list(kind):
        yield f"{place}#", _bytes(pc.list_value_length(array), "<i8")
        yield from _contents(array.flatten(), f"{place}.item")
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        yield f"{place}#", _bytes(pc.binary_length(array), "<i8")
        yield place, _text(array)
    else:
        yield place, _bytes(array.cast(pa.int64()) if pa.types.is_timestamp(kind) else array)


def _bytes(array: Any, kind: str | None = None) -> Any:
    values = array.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values.astype(kind or (np.uint8 if values.dtype == bool else values.dtype), copy=False))


def _text(array: Any) -> Any:
    """The bytes of all elements, one after the other."""
    if not len(array):
        return b""
    _, offsets, data = array.buffers()
    if data is None:
        return b""
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    return memoryview(data)[int(ends[0]) : int(ends[-1])]


def parquet_content(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Compute the hash of an export in Parquet again, from its files."""
    paths = [part["path"] for part in manifest["files"]]
    schema = pq.read_schema(folder / paths[0]) if paths else pa.schema([])
    content = ContentHash(manifest["model"], schema)
    for path in paths:
        with pq.ParquetFile(folder / path) as file:
            for batch in file.iter_batches():
                content.add(_date_of(path), batch)
    return content.hexdigest()


def _date_of(path: str) -> str:
    """The date of a file by its path, `model=NAME/date=DATE/FILE`."""
    return path.split("/")[1].removeprefix("date=")
