"""Draws intervals beside zero as inline SVG: effects of a candidate, and the spread of errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from gateway.offline.analysis.svg import cut, rect, svg, text

_WIDTH: Final = 440  # narrow enough for a phone: the label of a row stands above its interval
_ROW: Final = 38
_TOP: Final = 18
_MAX_LABEL: Final = 52


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
    text: str
    series: int
    mean: float
    quantiles: Sequence[float]
    note: str


def effects(title: str, rows: Sequence[EffectRow]) -> str:
    """Draw differences with their intervals about a line at zero. An interval without an end reaches the edge."""
    middle = half = _WIDTH / 2
    height = _TOP + _ROW * len(rows)
    parts = [text(middle, 12, "number middle", "no difference")]
    for index, row in enumerate(rows):
        top = _TOP + _ROW * index
        y = top + 26
        reach = _reach([one for one in rows if one.scale == row.scale])
        places = [middle + half * min(1.0, max(-1.0, end / reach)) for end in (row.low, row.value, row.high)]
        parts.append(
            f"<g><title>{escape(row.note)}</title>"
            f"{text(0, top + 14, 'label', cut(row.label, _MAX_LABEL))}"
            f"{text(_WIDTH, top + 14, 'number end', row.text)}"
            f'<path d="M{middle:.1f} {top + 19}v14" class="zero"/>'
            f'<path d="M{places[0]:.1f} {y}H{places[2]:.1f}" class="effect {row.kind}"/>'
            f'<circle cx="{places[1]:.1f}" cy="{y}" r="5" class="point {row.kind}"/></g>'
        )
    return svg(title, height, parts, _WIDTH)


def _reach(rows: Sequence[EffectRow]) -> float:
    ends = [abs(end) for row in rows for end in (row.low, row.value, row.high) if math.isfinite(end)]
    return 1.05 * max(ends, default=0.0) or 1.0


def spreads(title: str, rows: Sequence[SpreadRow]) -> str:
    """Draw boxes from the 25 to the 75% quantile with whiskers from 5 to 95%, on one scale with a line at zero."""
    low = min([0.0, *(row.quantiles[0] for row in rows)])
    high = max([0.0, *(row.quantiles[-1] for row in rows)])
    scale = (_WIDTH - 10) / ((high - low) or 1.0)
    height = _TOP + _ROW * len(rows)
    zero = 5 - low * scale
    parts = [text(zero, 12, "number middle", "0")]
    for value, kind in ((low, "number"), (high, "number end")):
        if abs(value) * scale > 60:
            parts.append(text(5 + (value - low) * scale, 12, kind, f"{value:.4g}"))
    for index, row in enumerate(rows):
        top = _TOP + _ROW * index
        y = top + 26
        ends = [5 + (value - low) * scale for value in row.quantiles]
        mean = 5 + (min(max(row.mean, low), high) - low) * scale
        kind = f"series-{row.series % 4}"
        parts.append(
            f"<g><title>{escape(row.note)}</title>"
            f"{text(0, top + 14, 'label', cut(row.label, _MAX_LABEL))}"
            f"{text(_WIDTH, top + 14, 'number end', row.text)}"
            f'<path d="M{zero:.1f} {top + 18}v18" class="zero"/>'
            f'<path d="M{ends[0]:.1f} {y}H{ends[4]:.1f}" class="line {kind}"/>'
            f"{rect(ends[1], y - 6, max(ends[3] - ends[1], 1), 12, f'box {kind}')}"
            f'<path d="M{ends[2]:.1f} {y - 6}v12" class="median"/>'
            f'<circle cx="{mean:.1f}" cy="{y}" r="3.5" class="dot {kind}"/></g>'
        )
    return svg(title, height, parts, _WIDTH)
