"""The shapes of the JSON documents on a release's traffic over an hour, a day and its whole life."""

from collections.abc import Sequence
from typing import Final

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from gateway.control.guards.window import quantile_ms
from gateway.control.traffic.history import ReleaseTraffic
from gateway.control.traffic.series import Counts
from gateway.control.traffic.top_counts import Count, ModelCounts

MOST_LISTED: Final = 10  # routes and customers


class PeriodDocument(TypedDict):
    """One version's traffic in one period. `errors` are the version's own failures, and `error_rate` their share of the
    requests, client errors excluded; null without requests, as the latencies are.
    """

    requests: int
    errors: int
    error_rate: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None


class VersionTrafficDocument(TypedDict):
    """One version's traffic in the last hour (up to five minutes more), the last day (up to an hour more), and since
    the release began. It survives a restart.
    """

    version: int
    variant: str
    hour: PeriodDocument
    day: PeriodDocument
    release: PeriodDocument


class TopDocument(TypedDict):
    """One route or customer, with its requests by the records, and how many of them the candidate got. Both are
    estimates; `requests` is at most `too_many` too high by the way of counting.
    """

    name: str
    requests: int
    candidate_requests: int
    too_many: int


class TrafficDocument(TypedDict):
    """One release's traffic. `since_time_s`: when its versions were named. `routes`, `customers`: the ten most frequent
    among `counted` recorded requests since `counted_since_s`, when the gateway started or the release began.
    """

    model: str
    since_time_s: float
    versions: list[VersionTrafficDocument]
    routes: list[TopDocument]
    customers: list[TopDocument]
    counted: int
    counted_since_s: float | None


def traffic_document(traffic: ReleaseTraffic, top: ModelCounts | None) -> TrafficDocument:
    """The document of one release's traffic. `top`: None if no request of it was recorded."""
    return {
        "model": traffic.model,
        "since_time_s": traffic.since_s,
        "versions": [
            {
                "version": one.version,
                "variant": one.variant,
                "hour": _period(one.hour),
                "day": _period(one.day),
                "release": _period(one.release),
            }
            for one in traffic.versions
        ],
        "routes": _top(top.routes.top(MOST_LISTED)) if top else [],
        "customers": _top(top.customers.top(MOST_LISTED)) if top else [],
        "counted": round(top.requests) if top else 0,
        "counted_since_s": top.since_s if top else None,
    }


def _period(counts: Counts) -> PeriodDocument:
    p50, p95, p99 = (quantile_ms(counts.latency, share) for share in (0.5, 0.95, 0.99))
    return {
        "requests": counts.requests,
        "errors": counts.failed,
        "error_rate": counts.failed / counts.answered if counts.answered else None,
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "latency_p99_ms": p99,
    }


def _top(counts: Sequence[tuple[str, Count]]) -> list[TopDocument]:
    return [
        {
            "name": name,
            "requests": round(count.requests),
            "candidate_requests": round(count.candidate),
            "too_many": round(count.error),
        }
        for name, count in counts
    ]
