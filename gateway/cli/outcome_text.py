"""Formats what feedback says of a release's versions."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from gateway.records.measures import value_text

LOWEST_RECALLS: Final = 3  # classes shown for each version
MIN_ROWS: Final = 10  # of a class, for its recall to be shown


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
            recalls = ", ".join(f"{one['name']} {one['recall']:.1%} (n={one['rows']:,})" for one in lowest)
            yield f"{name}: lowest recall: {recalls}"


def _measures(version: dict[str, Any]) -> str:
    """Such as "MAE 41.2, RMSE 50 (n=812); revenue 3.2 (n=40)"."""
    groups = groupby(version.get("measures", ()), key=lambda one: one["count"])
    return "; ".join(f"{', '.join(map(_measure, same))} (n={count:,})" for count, same in groups)


def _measure(one: dict[str, Any]) -> str:
    return f"{one['label']} {value_text(one['value'], one['form'])}"
