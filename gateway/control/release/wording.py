"""Words for a comparison's verdict, for people, including why there is no evidence yet."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.control.guards.comparisons import ComparisonResult, GuardVerdict
from gateway.control.release.overview import VersionStatus
from gateway.errors import tallied

NOTHING_YET: Final[Mapping[str, str]] = {
    "failures": "no failures yet",
    "slow_requests": "no slow requests yet",
    "wrong_feedback": "no wrong answers yet",
    "mirror_disagreement": "no disagreements with feedback yet",
    "predicted_class": "too few rows yet",
}
OF_TRUTHS: Final = frozenset({"wrong_feedback", "mirror_disagreement"})


def said(found: ComparisonResult, versions: Sequence[VersionStatus]) -> str:
    """Return the verdict, or what is missing if there is no data. `versions`: both, counted since the start."""
    if found.verdict is not GuardVerdict.NO_DATA:
        return str(found.verdict)
    tallies = [tallied(counted.totals.outcomes(counted.variant)) for counted in versions]
    for counted, (requests, _) in zip(versions, tallies, strict=True):
        if not requests and found.metric != "mirror_disagreement":
            return f"no requests to {'the ' if counted.variant == 'candidate' else ''}{counted.variant} yet"
    if found.metric in OF_TRUTHS and not any(counted.credit.labelled for counted in versions):
        return "no feedback with a truth yet"
    if found.metric == "failures" and any(failed for _, failed in tallies):
        return "no failures to compare yet"  # they were not randomised, or are older than the evidence's last restart
    return NOTHING_YET[found.metric]
