"""Formats a release's traffic over an hour, a day and its whole life, and its most frequent routes and customers."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.tables import indented

PERIODS = {"hour": "last hour", "day": "last day", "release": "release"}

DOUBTFUL = 0.05  # a share of a count that may be too much: then it is shown as an upper bound


def traffic_text(traffic: dict[str, Any]) -> RenderableType:
    """Format GET /api/releases/MODEL/traffic."""
    since = _moment(traffic["since_time_s"])
    table = Table(title=f"{traffic['model']}: traffic; the release began {since}", title_justify="left")
    for heading in ("version", "in the", "requests", "errors", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(heading, no_wrap=True)
    for version in traffic["versions"]:
        name = f"{version['version']} {version['variant']}"
        for key, period in PERIODS.items():
            table.add_row(name, period, *_cells(version[key]))
            name = ""
    return Group(table, *map(indented, _top_lines(traffic)), Text())


def _cells(period: dict[str, Any]) -> Iterator[str]:
    yield f"{period['requests']:,}"
    yield "-" if period["error_rate"] is None else f"{period['error_rate']:.2%}"
    for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms"):
        yield "-" if period[name] is None else f"{period[name]:.3g}"


def _top_lines(traffic: dict[str, Any]) -> Iterator[str]:
    if not traffic["counted"]:
        return
    for kind in ("routes", "customers"):
        yield f"most frequent {kind}: {', '.join(_top(traffic[kind]))}"
    yield f"(estimated from about {traffic['counted']:,} recorded requests since {_moment(traffic['counted_since_s'])})"


def _top(counts: Sequence[dict[str, Any]]) -> Iterator[str]:
    for one in counts:
        share = 100 * one["candidate_requests"] / max(1, one["requests"])
        most = "≤" if one["too_many"] > DOUBTFUL * one["requests"] else ""
        yield f"{one['name']} {most}{one['requests']:,}" + (f" ({share:.0f}% candidate)" if share else "")


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).isoformat(" ", "minutes")
