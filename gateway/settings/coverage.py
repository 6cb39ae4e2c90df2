"""Analyses routes without requests: which match every request, which match none, which are shadowed by earlier ones.

Its findings are certain, but not complete: a route reported as never matching matches no possible request, but not all
such routes are found.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import re2

from gateway.settings.matching import MatcherSettings, MatchSettings
from gateway.settings.routing import RouteSettings

MatchConditions = Mapping[
    str, MatcherSettings
]  # the conditions of one item by their place: `customer`, `headers.x-region`
Named = Mapping[str, frozenset[str] | None]  # the values of conditions that list them
MAX_TRIED_VALUES: Final = 200  # listed values of one condition that are tested against its other parts
MAX_ITEMS: Final = 200  # earlier items that an item is compared with one by one


def conditions_of(item: MatchSettings) -> MatchConditions:
    """Return the conditions of an item of `match`, by their place."""
    plain = {"customer": item.customer, "modality": item.modality}
    return {
        **{where: matcher for where, matcher in plain.items() if matcher is not None},
        **{f"headers.{name}": matcher for name, matcher in item.headers.items()},
        **{f"parameters.{name}": matcher for name, matcher in item.parameters.items()},
    }


def matches_all(route: RouteSettings) -> bool:
    """Whether the route matches every request: without conditions, or with a condition and its negation."""
    items = [conditions_of(item) for item in route.match]
    if not items or not all(items):
        return True
    alone = [next(iter(item.items())) for item in items if len(item) == 1]
    opposites = [(where, m.not_) for where, m in alone if m.not_ is not None and len(m.model_fields_set) == 1]
    return any(opposite in alone for opposite in opposites[:MAX_ITEMS])


def matches_nothing(matcher: MatcherSettings) -> bool:
    """Whether no value can match: none of the listed values meets the matcher's other conditions."""
    return values(matcher) == frozenset()


def values(matcher: MatcherSettings) -> frozenset[str] | None:
    """The values that match, if the matcher lists them; None if it does not, or if there are too many to test."""
    named = frozenset((matcher.exact,)) if matcher.exact is not None else matcher.in_
    if named is None or len(matcher.model_fields_set) == 1:
        return named
    return None if len(named) > MAX_TRIED_VALUES else frozenset(value for value in named if matches(matcher, value))


def matches(matcher: MatcherSettings, value: str) -> bool:
    """Whether the value meets all conditions of the matcher."""
    return (
        (matcher.exact is None or value == matcher.exact)
        and (matcher.in_ is None or value in matcher.in_)
        and (matcher.prefix is None or value.startswith(matcher.prefix))
        and (matcher.suffix is None or value.endswith(matcher.suffix))
        and (matcher.regex is None or re2.fullmatch(matcher.regex, value) is not None)
        and (matcher.not_ is None or not matches(matcher.not_, value))
    )


def covers(wide: MatcherSettings, narrow: MatcherSettings, named: frozenset[str] | None) -> bool:
    """Whether every value that matches `narrow` certainly matches `wide`. `named`: the listed values of `narrow`."""
    if named is not None:
        return all(matches(wide, value) for value in named)
    if wide.exact is not None or wide.in_ is not None:
        return False
    return (
        (wide.prefix is None or (narrow.prefix is not None and narrow.prefix.startswith(wide.prefix)))
        and (wide.suffix is None or (narrow.suffix is not None and narrow.suffix.endswith(wide.suffix)))
        and (wide.regex is None or wide.regex == narrow.regex)
        and (wide.not_ is None or (narrow.not_ is not None and covers(narrow.not_, wide.not_, values(wide.not_))))
    )


def unreachable_routes(routes: Sequence[RouteSettings]) -> list[tuple[int, list[int]]]:
    """Return the routes that never match, each with the earlier routes that match instead. Routes after a catch-all are
    not included.
    """
    found = []
    before = _Before()
    for position, route in enumerate(routes):
        if matches_all(route):
            break
        items = [conditions_of(item) for item in route.match]
        named = [{where: values(matcher) for where, matcher in item.items()} for item in items]
        instead = [before.instead_of(*both) for both in zip(items, named, strict=True)]
        if all(instead):
            found.append((position, sorted({number for numbers in instead for number in numbers})))
        for both in zip(items, named, strict=True):
            before.add(position, *both)
    return found


class _Before:
    """The `match` items of the routes before one. With more than MOST_ITEMS, only listed values are compared."""

    def __init__(self) -> None:
        self._items: list[tuple[int, MatchConditions]] = []
        self._of_value: dict[tuple[str, str], int] = {}  # the first route that matches on this value alone

    def add(self, position: int, item: MatchConditions, named: Named) -> None:
        self._items.append((position, item))
        if len(item) == 1:
            ((where, alone),) = named.items()
            for value in alone or ():
                self._of_value.setdefault((where, value), position)

    def instead_of(self, item: MatchConditions, named: Named) -> set[int]:
        """Return the routes that match everything that the item does: one, or several that share its values; else
        an empty set.
        """
        for where, these in named.items():
            if these and all((where, value) in self._of_value for value in these):
                return {self._of_value[where, value] for value in these}
        if len(self._items) <= MAX_ITEMS:
            for position, wide in self._items:
                if all(where in item and covers(matcher, item[where], named[where]) for where, matcher in wide.items()):
                    return {position}
        return set()
