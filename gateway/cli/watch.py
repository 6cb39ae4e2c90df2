"""What `gateway status --watch` shows: one line a model, as many as fit the terminal, those that need someone first."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

STATES: Final = ("stopped", "paused", "held", "ramping", "running", "alone")  # in the order in which they are listed
STYLES: Final = {"stopped": "bold red", "paused": "yellow", "held": "yellow", "ramping": "green", "running": "green"}
HEADINGS: Final = ("model", "state", "stable", "cand.", "to cand.", "req/s", "errors", "p99 ms", "")
RIGHT: Final = HEADINGS[2:8]
NAME_SHARE: Final = 0.3  # of the width, at most, for the models' names
VARIANTS: Final = ("stable", "candidate")
NONE: Final = "-"
_Counts = Mapping[tuple[str, int, str], int]


@dataclass(frozen=True, slots=True)
class Overview:
    """The releases, and their requests per second by model, version and variant. `alarms`: lines above them, such as an
    edit that is not in force.
    """

    releases: Sequence[dict[str, Any]]
    requests_per_s: Mapping[tuple[str, int, str], float]
    alarms: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Exactly fills the terminal at most: no line wraps, and no line more than there is room for."""
        width, height = console.size
        room = max(1, height - 2)  # the heading, and the line that says how many more there are
        alarms = [Text(line, "red", no_wrap=True, overflow="ellipsis") for line in self.alarms[: room // 2]]
        yield from alarms
        listed = sorted(self.releases, key=lambda one: (STATES.index(state_of(one)), one["model"]))
        shown = listed[: room - len(alarms)]
        yield self._table(shown, width)
        if more := len(listed) - len(shown):
            yield Text(f"… and {more:,} more: gateway status MODEL", "dim", no_wrap=True, overflow="ellipsis")

    def _table(self, shown: Sequence[dict[str, Any]], width: int) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), width=width)
        for heading in HEADINGS:
            table.add_column(
                heading,
                justify="right" if heading in RIGHT else "left",
                no_wrap=True,
                overflow="ellipsis",
                max_width=max(8, round(width * NAME_SHARE)) if heading == HEADINGS[0] else None,
                ratio=1 if not heading else None,
            )
        for release in shown:
            state = state_of(release)
            table.add_row(release["model"], Text(state, STYLES.get(state, "")), *self._cells(release))
        return table

    def _cells(self, release: dict[str, Any]) -> Iterator[str | Text]:
        yield str(release["stable"])
        yield NONE if release["candidate"] is None else str(release["candidate"])
        yield _share(release)
        rates = [self.requests_per_s.get(key) for key in _keys(release)]
        yield "/".join(NONE if rate is None else f"{rate:,.3g}" for rate in rates)
        yield "/".join(_percent(version["error_rate"]) for version in release["versions"])
        yield "/".join(_ms(version["latency_p99_ms"]) for version in release["versions"])
        yield Text(_note(release))


class Rates:
    """Requests per second from successive answers of the gateway. `clock`: in seconds."""

    def __init__(self) -> None:
        self._before: _Counts = {}
        self._before_s = 0.0

    def of(self, releases: Sequence[dict[str, Any]], now_s: float | None = None) -> dict[tuple[str, int, str], float]:
        """The rates since the last call; none at the first, nor of a version that was not there then."""
        now_s = time.monotonic() if now_s is None else now_s
        counts = {
            key: version["requests"]
            for release in releases
            for key, version in zip(_keys(release), release["versions"], strict=True)
        }
        elapsed_s = now_s - self._before_s
        rates = {
            key: max(0, count - self._before[key]) / elapsed_s for key, count in counts.items() if key in self._before
        }
        self._before, self._before_s = counts, now_s
        return rates


def state_of(release: dict[str, Any]) -> str:
    """One of STATES."""
    if release["candidate"] is None:
        return "alone"
    if release["stopped"]:
        return "stopped"
    stage = release["ramp"]["stage"] if "ramp" in release else "running"
    return stage if stage in STATES else "running"


def _keys(release: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(release["model"], version["version"], version["variant"]) for version in release["versions"]]


def _share(release: dict[str, Any]) -> str:
    """The candidate's share of the routes: of one, or from the least to the most."""
    shares = sorted({route["in_force_percent"] for route in release["routes"]})
    if release["candidate"] is None or not shares:
        return NONE
    return f"{shares[0]:g}%" if len(shares) == 1 else f"{shares[0]:g}-{shares[-1]:g}%"


def _note(release: dict[str, Any]) -> str:
    if stop := release["stop"]:
        return f"by {stop['by']}: {stop['reason']}"
    ramp = release.get("ramp")
    return f"waiting for {ramp['blocked_on']}" if ramp and ramp["blocked_on"] else ""


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.2g}%"


def _ms(latency_ms: float | None) -> str:
    return NONE if latency_ms is None else f"{latency_ms:.3g}"
