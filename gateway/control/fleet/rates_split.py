"""Splits a limit over hosts by what each is asked for. Every host computes the same from the same records."""

from collections.abc import Mapping, Sequence
from typing import Final

STEADY_BITS: Final = 3


def split(available: int, demands: Mapping[str, int]) -> dict[str, int]:
    """Whole requests by host, whose sum is `available`. Hosts that are asked for less than an equal part get that; the
    others share the rest equally, and all what nobody is asked for: first those that are asked for least, so that a
    rare request is not refused below the limit.
    """
    left, shares = available, dict.fromkeys(demands, 0)
    by_want = sorted(demands, key=lambda host: (demands[host], host))
    for number, host in enumerate(by_want):
        part = left // (len(by_want) - number)
        shares[host] = min(demands[host], part)
        left -= shares[host]
    for host, more in zip(by_want, equal_parts(left, len(by_want)), strict=True):
        shares[host] += more
    return shares


def equal_parts(total: int, count: int) -> Sequence[int]:
    """`count` whole numbers whose sum is `total`, as equal as can be."""
    if not count:
        return ()
    part, over = divmod(total, count)
    return [part + (place < over) for place in range(count)]


def steady(before: int, now: int) -> int:
    """The demand to publish: the one before while it is about the same, so that chance does not move shares."""
    return before if now and abs(now - before) <= max(1, before >> STEADY_BITS) else now
