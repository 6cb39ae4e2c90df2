"""Tables of the HTML report."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

LONG: Final = 44  # characters; a longer cell is broken into lines


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts."""
    return markup_table(headings, ([escape(cell) for cell in row] for row in rows))


def markup_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML. It scrolls where it is wider than the screen."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: str) -> str:
    is_long = len(cell) > LONG and not cell.startswith("<svg")
    return f'<td class="long">{cell}</td>' if is_long else f"<td>{cell}</td>"
