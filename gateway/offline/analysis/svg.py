"""Draws charts as inline SVG, without a library: bars with intervals, lines, a matrix, columns, a small picture.

Colours are CSS variables of the surrounding page, so they follow its light or dark scheme. Every mark has a `<title>`,
which browsers show as a tooltip and screen readers read aloud.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 720
_LABEL: Final = 240
_ROW: Final = 26
_SMALLEST: Final = 0.75  # of its size to which a picture shrinks; below it scrolls
_LEAST_SHOWN: Final = 520  # pixels
DARK_SHADE: Final = 0.5  # from this shade on, a cell's text needs the other colour


@dataclass(frozen=True, slots=True)
class Bar:
    """A value of 0 or more with its interval, and the reference value that it is compared with. `text`: the value."""

    label: str
    value: float
    low: float
    high: float
    reference: float
    note: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A series of points (x, y) with x and y from 0 to 1, and a tooltip for each."""

    name: str
    points: Sequence[tuple[float, float]]
    notes: Sequence[str]


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Draw horizontal bars on a scale from 0 to the highest end of an interval."""
    top = max([row.high for row in rows] + [row.reference for row in rows]) or 1.0
    scale = (WIDTH - _LABEL - 70) / top
    height = _ROW * len(rows) + 8
    parts = []
    for index, row in enumerate(rows):
        y = _ROW * index + 4
        middle = y + _ROW / 2 - 2
        value, low, high, reference = (
            _LABEL + scale * max(0.0, share) for share in (row.value, row.low, row.high, row.reference)
        )
        parts.append(
            f"<g><title>{escape(row.note)}</title>"
            f'<text x="{_LABEL - 10}" y="{middle + 4:.1f}" class="label end">{escape(cut(row.label, 36))}</text>'
            f'<rect x="{_LABEL}" y="{y + 3}" width="{max(value - _LABEL, 1):.1f}" height="{_ROW - 10}" class="bar"/>'
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}" class="whisker"/>'
            f'<path d="M{reference:.1f} {y}V{y + _ROW - 4}" class="reference"/>'
            f"{text(max(high, value, reference) + 6, middle + 4, 'number', row.text)}</g>"
        )
    return svg(title, height, parts)


def lines(title: str, series: Sequence[Line], bottom: float, ends: tuple[str, str]) -> str:
    """Draw lines over time. `bottom`: the share at the lower edge (upper edge: 1); `ends`: x axis labels."""
    left, right, top, floor = 50, WIDTH - 90, 12, 190
    parts = [
        f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{left - 8}" y="{y + 4:.1f}" class="number end">{100 * (bottom + (1 - bottom) * share):.0f}%</text>'
        for share in (0, 0.5, 1)
        for y in (floor - share * (floor - top),)
    ]
    for number, line in enumerate(series):
        places = [
            (left + x * (right - left), floor - (y - bottom) / ((1 - bottom) or 1) * (floor - top))
            for x, y in line.points
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" class="line series-{number % 4}"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="dot series-{number % 4}"><title>{escape(note)}</title>'
            "</circle>"
            for (x, y), note in zip(places, line.notes, strict=True)
        ]
        legend = left + 130 * number
        parts.append(f'<path d="M{legend} {floor + 44}h22" class="line series-{number % 4}"/>')
        parts.append(text(legend + 30, floor + 48, "label", line.name))
    parts += [text(left, floor + 20, "number", ends[0]), text(right, floor + 20, "number end", ends[1])]
    return svg(title, floor + 56, parts)


def matrix(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Draw a confusion matrix. Rows are truths, columns predictions; a cell's shade is its share of its row."""
    left, top = 130, 40
    cell = min(48, (WIDTH - left - 10) // max(len(names), 1))
    width = max(left + cell * len(names) + 10, 240)
    parts = [text(left, 12, "number", "predicted →"), text(0, top - 6, "number", "truth ↓")]
    for row, name in enumerate(names):
        y = top + row * cell
        parts.append(text(left - 8, y + cell / 2 + 4, "label end", cut(name, 16)))
        parts.append(text(left + (row + 0.5) * cell, top - 6, "label middle", cut(name, cell // 7)))
        total = sum(counts[row]) or 1
        for column, count in enumerate(counts[row]):
            note = f"{name}, predicted as {names[column]}: {count:,} ({count / total:.1%})"
            parts.append(
                _cell(left + column * cell, y, cell, count=count, share=count / total, right=row == column, note=note)
            )
    return svg(title, top + cell * len(names) + 4, parts, width, enlarged=False)


def _cell(x: float, y: float, size: float, *, count: int, share: float, right: bool, note: str) -> str:
    kind = "right" if right else "wrong"
    ink = "count on" if share > DARK_SHADE else "count"
    number = text(x + size / 2 - 1, y + size / 2 + 3, ink, _short(count)) if count else ""
    return (
        f'<g><title>{escape(note)}</title><rect x="{x}" y="{y}" width="{size - 2}" height="{size - 2}" rx="2"'
        f' class="cell {kind}" fill-opacity="{_shade(share)}"/>{number}</g>'
    )


def columns(title: str, names: Sequence[str], stacks: Sequence[tuple[int, int]]) -> str:
    """Draw stacked vertical columns of two counts each: right below, wrong above."""
    left, floor, height = 60, 170, 150
    top = max([right + wrong for right, wrong in stacks] + [1])
    width = (WIDTH - left - 10) / len(names)
    parts = [f'<line x1="{left}" x2="{WIDTH - 10}" y1="{floor}" y2="{floor}" class="grid"/>']
    parts.append(f'<text x="{left - 8}" y="{floor - height + 4}" class="number end">{_short(top)}</text>')
    for index, (name, (right, wrong)) in enumerate(zip(names, stacks, strict=True)):
        x, lower, upper = left + index * width + 3, height * right / top, height * wrong / top
        parts.append(
            f"<g><title>{escape(f'{name}: {right:,} right, {wrong:,} wrong')}</title>"
            f"{rect(x, floor - lower, width - 6, lower, 'cell right')}"
            f"{rect(x, floor - lower - upper, width - 6, upper, 'cell wrong')}"
            f"{text(x + width / 2 - 3, floor + 18, 'number middle', name)}</g>"
        )
    return svg(title, floor + 26, parts)


def picture(rows: Sequence[Sequence[float]], side: int = 48) -> str:
    """Draw a grey picture; values from 0 to 1."""
    size = side / len(rows)
    extent = f'width="{size + 0.05:.2f}" height="{size + 0.05:.2f}"'
    cells = "".join(
        f'<rect x="{x * size:.2f}" y="{y * size:.2f}" {extent} fill-opacity="{value:g}"/>'
        for y, row in enumerate(rows)
        for x, value in enumerate(row)
        if value > 0
    )
    head = f'<svg viewBox="0 0 {side} {side}" width="{side}" height="{side}" class="picture"'
    return f'{head} role="img" aria-label="the input">{cells}</svg>'


def text(x: float, y: float, kind: str, content: str) -> str:
    """A text at its base line."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(content)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>'


def svg(title: str, height: float, parts: Sequence[str], width: float = WIDTH, *, enlarged: bool = True) -> str:
    """The picture; not smaller than its text can be read, so it scrolls where there is less room."""
    shown = max(width, _LEAST_SHOWN) if enlarged else width
    return (
        f'<div class="scroll" tabindex="0"><svg viewBox="0 0 {width:.0f} {height:.0f}"'
        f' style="min-width: {_SMALLEST * width:.0f}px; width: {shown:.0f}px" role="img"'
        f' aria-label="{escape(title)}">{"".join(parts)}</svg></div>'
    )


def _shade(share: float) -> str:
    return f"{0.06 + 0.94 * share:.3f}" if share else "0.04"


def _short(count: int) -> str:
    return f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"


def cut(content: str, length: int) -> str:
    """The text, shortened to `length` characters."""
    return content if len(content) <= length else f"{content[: max(length - 1, 1)]}…"
