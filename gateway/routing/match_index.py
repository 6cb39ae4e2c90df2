"""Finds the first route that matches a request, without testing them one by one.

Each match item is filed under its most selective condition that a hash can find: an exact value, one of a list, or a
prefix or suffix of a given length. A request then looks up its own values, and only the items found there are tested.
Items with no such condition (only `regex` or `not`, or no condition at all) are tested one by one: only their number
adds to the cost of a request.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.routing.attributes import Accessor, AttributeName, Attributes, accessor, conditions
from gateway.routing.matchers import Test, compile_matcher
from gateway.settings.matching import MatcherSettings, MatchSettings

NO_MATCH: Final = -1

_LAST: Final = sys.maxsize
_WHOLE: Final = 0  # an anchor's length: 0 for the whole value, n for a prefix of n characters, -n for a suffix
Anchor = tuple[AttributeName, int, str]
Entry = tuple[int, tuple[tuple[Accessor, Test], ...]]  # the route's position, and what is left to test
_Condition = tuple[AttributeName, MatcherSettings]


class MatchIndex:
    """The index of the `match` items of a list of routes."""

    __slots__ = ("_scanned", "_tables")

    def __init__(self, routes: Sequence[Sequence[MatchSettings]]) -> None:
        """`routes` holds the match items of each route; none at all matches every request."""
        items = [
            (position, conditions(item)) for position, route in enumerate(routes) for item in route or [MatchSettings()]
        ]
        frequency = Counter(anchor for _, item in items for condition in item for anchor in _anchors(condition))
        tables: dict[tuple[AttributeName, int], dict[str, list[Entry]]] = {}
        self._scanned: list[Entry] = []
        for position, item in items:
            chosen = _most_selective(item, frequency)
            entry = (position, tuple(_rest(item, chosen)))
            if chosen is None:
                self._scanned.append(entry)
            for name, length, text in _anchors(chosen) if chosen else ():
                tables.setdefault((name, length), {}).setdefault(text, []).append(entry)
        self._tables = [
            (
                accessor(name),
                tables.get((name, _WHOLE), {}),
                [(length, table) for (other, length), table in tables.items() if other == name and length != _WHOLE],
            )
            for name in dict.fromkeys(name for name, _ in tables)
        ]

    def first(self, attributes: Attributes) -> int:
        """The position of the first route that matches, or NO_MATCH."""
        best = _LAST
        for read, whole, affixes in self._tables:
            value = read(attributes)
            if value is None:
                continue
            if value in whole:
                best = _earliest(whole[value], attributes, best)
            for length, table in affixes:
                affix = value[:length] if length > 0 else value[length:]
                if affix in table:
                    best = _earliest(table[affix], attributes, best)
        if self._scanned:
            best = _earliest(self._scanned, attributes, best)
        return best if best != _LAST else NO_MATCH


def _earliest(entries: Iterable[Entry], attributes: Attributes, best: int) -> int:
    """The position of the first of `entries` that matches, unless `best` comes before it."""
    for position, rest in entries:
        if position >= best:
            return best
        for read, test in rest:
            if not test(read(attributes)):
                break
        else:
            return position
    return best


def _anchors(condition: _Condition) -> list[Anchor]:
    """The values by which a hash finds the requests that fulfil the condition; empty if there are none."""
    name, matcher = condition
    if matcher.exact is not None:
        return [(name, _WHOLE, matcher.exact)]
    if matcher.in_ is not None:
        return [(name, _WHOLE, value) for value in matcher.in_]
    if matcher.prefix:
        return [(name, len(matcher.prefix), matcher.prefix)]
    if matcher.suffix:
        return [(name, -len(matcher.suffix), matcher.suffix)]
    return []


def _most_selective(item: list[_Condition], frequency: Counter[Anchor]) -> _Condition | None:
    """The condition whose busiest anchor is shared by the fewest items; None if no condition has an anchor."""
    busiest = [
        (max(frequency[anchor] for anchor in anchors), condition)
        for condition in item
        if (anchors := _anchors(condition))
    ]
    return min(busiest, key=lambda pair: pair[0])[1] if busiest else None


def _rest(item: list[_Condition], anchor: _Condition | None) -> Iterable[tuple[Accessor, Test]]:
    for condition in item:
        name, matcher = condition
        if condition is anchor and len(matcher.model_fields_set) == 1:
            continue  # the lookup has tested the whole condition
        yield accessor(name), compile_matcher(matcher)
