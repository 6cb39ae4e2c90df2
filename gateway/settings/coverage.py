"""What can be told of routes without a request: which fit everyone, which fit no one, which come too late.

All of it is certain: where it says that a route never matches, no request that could be made does. It does not find all
such routes.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import re2

from gateway.settings.matching import MatcherSettings, MatchSettings
from gateway.settings.routing import RouteSettings

MatchConditions = Mapping[
    str, MatcherSettings
]  # the conditions of one item, by where they stand: `customer`, `headers.x-region`
Named = Mapping[str, frozenset[str] | None]  # the values of those that name theirs one by one
MAX_TRIED_VALUES: Final = 200  # values of one condition that are held against its others
MAX_ITEMS: Final = 200  # that another is held against one by one


def conditions_of(item: MatchSettings) -> MatchConditions:
    """The conditions of an item of `match`."""
    plain = {"customer": item.customer, "modality": item.modality}
    return {
        **{where: matcher for where, matcher in plain.items() if matcher is not None},
        **{f"headers.{name}": matcher for name, matcher in item.headers.items()},
        **{f"parameters.{name}": matcher for name, matcher in item.parameters.items()},
    }


def matches_all(route: RouteSettings) -> bool:
    """Whether the route is for every request: without conditions, or with a condition and its opposite."""
    items = [conditions_of(item) for item in route.match]
    if not items or not all(items):
        return True
    alone = [next(iter(item.items())) for item in items if len(item) == 1]
    opposites = [(where, m.not_) for where, m in alone if m.not_ is not None and len(m.model_fields_set) == 1]
    return any(opposite in alone for opposite in opposites[:MAX_ITEMS])


def matches_nothing(matcher: MatcherSettings) -> bool:
    """Whether no value fits: none of those that are named fits the matcher's other conditions."""
    return values(matcher) == frozenset()


def values(matcher: MatcherSettings) -> frozenset[str] | None:
    """The values that fit, where the matcher names them; None where it does not, or where they take long to try."""
    named = frozenset((matcher.exact,)) if matcher.exact is not None else matcher.in_
    if named is None or len(matcher.model_fields_set) == 1:
        return named
    return None if len(named) > MAX_TRIED_VALUES else frozenset(value for value in named if matches(matcher, value))


def matches(matcher: MatcherSettings, value: str) -> bool:
    """Whether the value meets all conditions."""
    return (
        (matcher.exact is None or value == matcher.exact)
        and (matcher.in_ is None or value in matcher.in_)
        and (matcher.prefix is None or value.startswith(matcher.prefix))
        and (matcher.suffix is None or value.endswith(matcher.suffix))
        and (matcher.regex is None or re2.fullmatch(matcher.regex, value) is not None)
        and (matcher.not_ is None or not matches(matcher.not_, value))
    )


def covers(wide: MatcherSettings, narrow: MatcherSettings, named: frozenset[str] | None) -> bool:
    """Whether, for certain, all that fits `narrow`, whose values are `named`, fits `wide`."""
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
    """The routes that never match, with those before them that match instead; none of those that follow a catch-all."""
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
    """The items of the routes before one. In a long list only values that are named one by one are looked up."""

    def __init__(self) -> None:
        self._items: list[tuple[int, MatchConditions]] = []
        self._of_value: dict[tuple[str, str], int] = {}  # the first route for each value that is all it asks for

    def add(self, position: int, item: MatchConditions, named: Named) -> None:
        self._items.append((position, item))
        if len(item) == 1:
            ((where, alone),) = named.items()
            for value in alone or ():
                self._of_value.setdefault((where, value), position)

    def instead_of(self, item: MatchConditions, named: Named) -> set[int]:
        """The routes that match whatever the item does: one, or several that share its values; empty if none."""
        for where, these in named.items():
            if these and all((where, value) in self._of_value for value in these):
                return {self._of_value[where, value] for value in these}
        if len(self._items) <= MAX_ITEMS:
            for position, wide in self._items:
                if all(where in item and covers(matcher, item[where], named[where]) for where, matcher in wide.items()):
                    return {position}
        return set()
