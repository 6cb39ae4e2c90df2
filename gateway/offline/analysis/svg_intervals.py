"""Draws intervals beside zero as inline SVG: effects of a candidate, and the spread of errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from gateway.offline.analysis.svg import WIDTH, cut, rect, svg, text

_LABEL: Final = 250
_RIGHT: Final = 170  # for the numbers
_ROW: Final = 28
_TOP: Final = 18


@dataclass(frozen=True, slots=True)
class EffectRow:
    """A difference with its interval. `kind`: good, bad or open, which is its colour; rows of a `scale` share one."""

    label: str
    scale: str
    value: float
    low: float
    high: float
    text: str
    kind: str
    note: str


@dataclass(frozen=True, slots=True)
class SpreadRow:
    """A distribution: its mean and its 5, 25, 50, 75 and 95% quantiles. `series`: the number of its colour."""

    label: str
    series: int
    mean: float
    quantiles: Sequence[float]
    note: str


def effects(title: str, rows: Sequence[EffectRow]) -> str:
    """Draw differences with their intervals about a line at zero. An interval without an end reaches the edge."""
    left, right = _LABEL, WIDTH - _RIGHT
    middle, half = (left + right) / 2, (right - left) / 2
    height = _TOP + _ROW * len(rows) + 4
    parts = [
        f'<path d="M{middle:.1f} {_TOP}V{height}" class="zero"/>',
        text(middle, 12, "number middle", "no difference"),
    ]
    for index, row in enumerate(rows):
        y = _TOP + _ROW * index + _ROW / 2
        reach = _reach([one for one in rows if one.scale == row.scale])
        places = [middle + half * min(1.0, max(-1.0, end / reach)) for end in (row.low, row.value, row.high)]
        parts.append(
            f"<g><title>{escape(row.note)}</title>"
            f"{text(left - 12, y + 4, 'label end', cut(row.label, 38))}"
            f'<path d="M{places[0]:.1f} {y:.1f}H{places[2]:.1f}" class="effect {row.kind}"/>'
            f'<circle cx="{places[1]:.1f}" cy="{y:.1f}" r="5" class="point {row.kind}"/>'
            f"{text(right + 12, y + 4, 'number', row.text)}</g>"
        )
    return svg(title, height, parts)


def _reach(rows: Sequence[EffectRow]) -> float:
    ends = [abs(end) for row in rows for end in (row.low, row.value, row.high) if math.isfinite(end)]
    return 1.05 * max(ends, default=0.0) or 1.0


def spreads(title: str, rows: Sequence[SpreadRow]) -> str:
    """Draw boxes from the 25 to the 75% quantile with whiskers from 5 to 95%, on one scale with a line at zero."""
    left, right = _LABEL, WIDTH - 40
    low = min([0.0, *(row.quantiles[0] for row in rows)])
    high = max([0.0, *(row.quantiles[-1] for row in rows)])
    scale = (right - left) / ((high - low) or 1.0)
    height = _TOP + _ROW * len(rows) + 4
    zero = left - low * scale
    parts = [f'<path d="M{zero:.1f} {_TOP}V{height}" class="zero"/>', text(zero, 12, "number middle", "0")]
    for value in (low, high):
        if abs(value) * scale > 40:
            parts.append(text(left + (value - low) * scale, 12, "number middle", f"{value:.4g}"))
    for index, row in enumerate(rows):
        y = _TOP + _ROW * index + _ROW / 2
        ends = [left + (value - low) * scale for value in row.quantiles]
        mean = left + (min(max(row.mean, low), high) - low) * scale
        kind = f"series-{row.series % 4}"
        parts.append(
            f"<g><title>{escape(row.note)}</title>"
            f"{text(left - 12, y + 4, 'label end', cut(row.label, 38))}"
            f'<path d="M{ends[0]:.1f} {y:.1f}H{ends[4]:.1f}" class="line {kind}"/>'
            f"{rect(ends[1], y - 8, max(ends[3] - ends[1], 1), 16, f'box {kind}')}"
            f'<path d="M{ends[2]:.1f} {y - 8:.1f}v16" class="median"/>'
            f'<circle cx="{mean:.1f}" cy="{y:.1f}" r="4" class="dot {kind}"/></g>'
        )
    return svg(title, height, parts)
