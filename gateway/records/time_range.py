"""Time ranges of queries. Parses times as people write them; a time is in nanoseconds since 1970."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.errors import GatewayError
from gateway.settings.units import parse_seconds

_SECOND_NS: Final = 1_000_000_000
NOW: Final = "0s"  # as people write it: no time ago
LATEST_NS: Final = (2**63 - 1) // 1000 * 1000  # in the year 2262: a later time means this one
EXAMPLES: Final = "24h, 30m, 2026-11-24 or 2026-11-24T08:30:00+01:00"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `since_ns` (inclusive) to `until_ns` (exclusive); None: no bound."""

    since_ns: int | None = None
    until_ns: int | None = None

    def covers(self, time_ns: int) -> bool:
        """Whether a time is in the range."""
        return (self.since_ns is None or time_ns >= self.since_ns) and (
            self.until_ns is None or time_ns < self.until_ns
        )


ALL_TIME: Final = TimeRange()


def parse_time_ns(text: str, now_ns: int) -> int:
    """Parse an ISO time (UTC if it has no zone), or a duration, which counts back from `now_ns`.

    Returns nanoseconds since 1970, in whole microseconds: `format_time` writes exactly that time. A time that does not
    fit into 64 bits is `LATEST_NS`. Raises GatewayError with examples.
    """
    try:
        time_ns = (now_ns - round(parse_seconds(text) * _SECOND_NS)) // 1000 * 1000
    except ValueError:
        time_ns = _iso_ns(text)
    except OverflowError:  # an infinite number of seconds
        time_ns = -1
    if time_ns < 0:
        raise GatewayError(f"{text!r:.60} is before 1970; leave it out for no bound, or write for example {EXAMPLES}")
    return min(time_ns, LATEST_NS)


def format_time(time_ns: int) -> str:
    """Format a time in UTC with microseconds: 2026-11-24T08:30:00.000000+00:00."""
    seconds, rest_ns = divmod(time_ns, _SECOND_NS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000).isoformat(timespec="microseconds")


def _iso_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise GatewayError(f"{text!r:.60} is neither a time nor a duration; write for example {EXAMPLES}") from None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    since_1970 = moment - datetime.fromtimestamp(0, UTC)
    return (since_1970.days * 86_400 + since_1970.seconds) * _SECOND_NS + since_1970.microseconds * 1000
