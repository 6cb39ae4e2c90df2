"""The comparison of versions in words and numbers, for the terminal and the HTML report."""

import math
from collections.abc import Sequence
from typing import Final

from gateway.offline.analysis.analyzer import Analysis
from gateway.offline.analysis.versions import Effect
from gateway.offline.statistics import percent

AS_STATUS: Final = (
    "gateway status counts by the same rules, but what came since the release began or was resumed, on all hosts, and"
    " the first feedback on each prediction; this is of the records of the period, and the latest feedback"
)
Rows = list[tuple[str, ...]]


def effect_text(one: Effect) -> str:
    """The difference with its interval: +2.1 [0.3, 3.9], of shares in percentage points."""
    factor, unit = (100, " points") if one.metric.share else (1, "")
    ends = [_end(factor * end) for end in (one.low, one.high)]
    return f"{factor * one.value:+.3g} [{ends[0]}, {ends[1]}]{unit}"


def _end(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:+.3g}"


def summary_of_effect(one: Effect) -> tuple[str, ...]:
    """The metric, stable's and the candidate's, the difference, and the verdict."""
    return (
        one.metric.label,
        one.metric.shown(one.stable),
        one.metric.shown(one.candidate),
        effect_text(one),
        str(one.verdict),
    )


def more_text(one: Effect) -> str:
    """About how many more outcomes would tell."""
    return "-" if one.more_units is None else f"{one.more_units:,}"


def metric_rows(analysis: Analysis) -> tuple[Sequence[str], Rows]:
    """A heading for each version, and a row for each metric."""
    versions = sorted({one.version for one in analysis.versions})
    rows: dict[str, dict[int, str]] = {}
    for one in analysis.versions:
        shown = f"{one.metric.shown(one.mean)} of {one.mean.count:,}"
        rows.setdefault(one.metric.label, {})[one.version] = shown
    headings = ["metric", *(f"version {version}" for version in versions)]
    return headings, [(name, *(cells.get(version, "-") for version in versions)) for name, cells in rows.items()]


def recall_rows(analysis: Analysis) -> tuple[Sequence[str], Rows]:
    """A heading for each version, and a row for each class or label."""
    recalls = analysis.tallies.recalls()
    versions = sorted({version for rates in recalls.values() for version in rates})
    rows: Rows = []
    for name, rates in recalls.items():
        cells = [
            f"{percent(rates[version])} of {rates[version].count:,}" if version in rates else "-"
            for version in versions
        ]
        rows.append((analysis.predicting.name_of(name), *cells))
    return ["class", *(f"version {version}" for version in versions)], rows
