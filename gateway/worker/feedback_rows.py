"""The values of an item of feedback by row: one value for the request, a list of its rows, or one row by its index."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gateway.errors import InvalidRequest
from gateway.protocol.elements import short
from gateway.settings.model import Kind

MAX_ROWS: Final = 10_000  # values in one list
LISTS: Final = frozenset({Kind.MULTILABEL, Kind.RANKING})  # kinds whose truth of one row is itself a list


class RowValues(NamedTuple):
    """Values of some of the request's rows: `rows[i]` is the row that `values[i]` is about; None: not judged.

    `listed`: they were given as a list of all rows.
    """

    values: Sequence[Any]
    rows: Sequence[int]
    listed: bool


def checked_row(row: Any, count: int | None) -> int | None:
    """Return the index of the row that an item of feedback is about; None: about the request. Raises InvalidRequest."""
    if row is None:
        return None
    last = MAX_ROWS if count is None else count - 1
    if type(row) is not int or not 0 <= row <= last:
        raise InvalidRequest(f"row must be a whole number from 0 to {last}, the request's last row; got {short(row)}")
    return row


def row_values(name: str, value: Any, *, count: int | None, row: int | None, kind: Kind | None = None) -> RowValues:
    """Split a value into those of rows. `count`: the request's rows, None if unknown; `kind`: of a truth.

    Raises InvalidRequest if a list is not as long as the request, or if there is one truth for several rows.
    """
    if row is not None:
        return RowValues([value], [row], listed=False)
    listed = _is_list_of_rows(value, count, kind)
    if listed:
        if not 0 < len(value) <= MAX_ROWS or (count is not None and len(value) != count):
            raise InvalidRequest(
                f"{name} is a list of {len(value):,}, but the request had {_rows(count)}: give one value for each row,"
                f" null for one that is not judged; {MAX_ROWS:,} at most"
            )
        if all(one is None for one in value):
            raise InvalidRequest(f"{name} is null for every row; give the value of one row at least")
        return RowValues(value, range(len(value)), listed=True)
    if kind is not None and count != 1:
        raise InvalidRequest(
            f"the request had {_rows(count)}, and one {name} does not say which row it is about: give a list with one"
            " for each row, null for one that is not judged, or the row's index as `row`, 0 for the first"
        )
    return RowValues([value], [0], listed=False)


def _is_list_of_rows(value: Any, count: int | None, kind: Kind | None) -> bool:
    """Whether a list is one of rows. What a single row's truth may itself be is one only if it holds lists."""
    if type(value) is not list:
        return False
    if kind in LISTS and count == 1:
        return any(type(one) is list for one in value)
    return kind not in (Kind.NONE, Kind.EMBEDDING) or count != 1


def _rows(count: int | None) -> str:
    return "several rows" if count is None else "one row" if count == 1 else f"{count:,} rows"
