"""Words for a comparison's verdict, for people, including why there is no evidence yet."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.control.guards.comparisons import ComparisonResult, GuardVerdict
from gateway.control.release.release_status import VersionStatus
from gateway.errors import request_counts

NO_DATA_TEXTS: Final[Mapping[str, str]] = {
    "failures": "no failures yet",
    "slow_requests": "no slow requests yet",
    "wrong_feedback": "no feedback with a truth to compare yet",
    "complaints": "no complaints yet",
    "mirror_disagreement": "no disagreements with feedback yet",
    "predicted_class": "too few rows yet",
    "predicted_value": "too few rows yet",
}
NEEDS_TRUTH: Final = frozenset({"wrong_feedback", "mirror_disagreement"})


def verdict_text(found: ComparisonResult, versions: Sequence[VersionStatus]) -> str:
    """Return the verdict, with a forecast for means that seem worse, or what is missing if there is no data.

    `versions`: both, counted since the start.
    """
    if found.verdict is not GuardVerdict.NO_DATA:
        more = "" if found.more_units is None else f": if it is as it seems, {found.more_units:,} outcomes more to act"
        return f"{found.verdict}{more}"
    tallies = [request_counts(counted.totals.outcomes(counted.variant)) for counted in versions]
    for counted, (requests, _) in zip(versions, tallies, strict=True):
        if not requests and found.metric != "mirror_disagreement":
            return f"no requests to {'the ' if counted.variant == 'candidate' else ''}{counted.variant} yet"
    if found.metric in NEEDS_TRUTH and not any(counted.feedback.labelled for counted in versions):
        return "no feedback with a truth yet"
    if found.metric == "failures" and any(failed for _, failed in tallies):
        return "no failures to compare yet"  # they were not randomised, or are older than the evidence's last restart
    return NO_DATA_TEXTS.get(found.metric) or f"no feedback with {found.metric} to compare yet"
