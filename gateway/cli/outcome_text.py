"""Formats what feedback says of a release's versions: their measures, and whether the candidate is better."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.records.measures import RATIO, SHARE, value_text
from gateway.system.printable import printable

LOWEST_RECALLS: Final = 3  # classes shown for each version
MIN_ROWS: Final = 10  # of a class, for its recall to be shown
MOST_ROUTE_ROWS: Final = 20  # differences on single routes
UNKNOWN: Final = "not known yet"
UNEQUAL_WEIGHTS: Final = (
    "difference: each outcome is compared with others of its route, and weighed by both versions' chances of it; where"
    " weights differ or have changed, that is not the difference of the two means"
)
COLORS: Final = {"better": "green", "no worse": "green", "worse": "red"}


def feedback_lines(release: dict[str, Any]) -> Iterator[str]:
    """Yield lines on the measures of each version, and the classes that it recalls least."""
    versions = release["versions"]
    if versions and not any(version.get("measures") for version in versions):  # none by a gateway of an earlier release
        yield "no feedback yet"
        return
    for version in versions:
        name = f"version {version['version']}"
        yield f"{name}: {_measures(version) or 'no feedback yet'}"
        often = [one for one in version.get("classes", ()) if one["rows"] >= MIN_ROWS and one["recall"] < 1]
        if lowest := sorted(often, key=lambda one: one["recall"])[:LOWEST_RECALLS]:
            recalls = ", ".join(f"{printable(one['name'])} {one['recall']:.1%} (n={one['rows']:,})" for one in lowest)
            yield f"{name}: lowest recall: {recalls}"


def _measures(version: dict[str, Any]) -> str:
    """Such as "MAE 41.2, RMSE 50 (n=812); revenue 3.2 (n=40)"."""
    groups = groupby(version.get("measures", ()), key=lambda one: one["count"])
    return "; ".join(f"{', '.join(map(_measure, same))} (n={count:,})" for count, same in groups)


def _measure(one: dict[str, Any]) -> str:
    return f"{printable(one['label'])} {value_text(one['value'], one['form'])}"


def known_text(release: dict[str, Any]) -> RenderableType:
    """What is known of the candidate before it is promoted."""
    candidate = f"version {release['candidate']} of {release['model']}"
    effects = release.get("effects") or []
    if not effects:
        return Text(f"nothing is known of {candidate} from feedback: whether it is better cannot be said")
    worse = [printable(one["label"]) for one in effects if one["verdict"] == "worse" and one["route"] is None]
    warning = [Text(f"{candidate} is worse in {', '.join(worse)}", style="red")] if worse else []
    return Group(effects_table(effects), *difference_note(release), *warning)


def difference_note(release: dict[str, Any]) -> list[Text]:
    """What to know of the differences where they are not those of the means beside them; empty where they are."""
    weights = {route["in_force_percent"] for route in release["routes"]}
    return [Text(UNEQUAL_WEIGHTS, "dim")] if len(weights) > 1 or release.get("ramp") else []


def effects_table(effects: Sequence[dict[str, Any]], title: str = "Is it better?") -> Table:
    """Return a table of what the candidate differs from stable on all traffic, and on routes where that is certain."""
    certain = [one for one in effects if one["route"] is not None and one["verdict"] != UNKNOWN]
    table = Table(title=title, title_justify="left")
    for heading in ("metric", *(["route"] if certain else []), "stable", "candidate", "difference", "interval", ""):
        table.add_column(heading)
    for one in [*(one for one in effects if one["route"] is None), *certain[:MOST_ROUTE_ROWS]]:
        color = COLORS.get(one["verdict"], "default")
        route = [escape(one["route"] or "")] if certain else []
        table.add_row(
            escape(printable(one["label"])), *route, _mean(one, "stable"), _mean(one, "candidate"),
            _difference(one, "effect"), _interval(one), f"[{color}]{escape(one['words'])}[/{color}]",
        )  # fmt: skip
    if len(certain) > MOST_ROUTE_ROWS:
        table.caption = f"… and {len(certain) - MOST_ROUTE_ROWS} more on routes: gateway status --json"
    return table


def _mean(effect: dict[str, Any], side: str) -> str:
    if effect["form"] == RATIO:
        return f"n={effect[f'{side}_units']:,}"
    if effect[side] is None:
        return "-"
    return f"{value_text(effect[side], effect['form'])} (n={effect[f'{side}_units']:,})"


def _interval(effect: dict[str, Any]) -> str:
    if effect["low"] is None or effect["high"] is None:
        return "-"
    return f"{_difference(effect, 'low').removesuffix(' points')} to {_difference(effect, 'high')}"


def _difference(effect: dict[str, Any], key: str) -> str:
    """With its sign; of shares in percentage points."""
    value = effect[key]
    if value is None:
        return "-"
    if effect["form"] == RATIO:
        return value_text(value, RATIO)
    return f"{100 * value:+.2f} points" if effect["form"] == SHARE else f"{value:+.3g}"
