"""How deep what clients send may be nested: records are read, joined and written again by tools with limits of their own.

orjson parses 1,024 levels and writes 254, log shippers often read 128, and a record adds some. What can be answered
must be recorded and exported.
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

from gateway.errors import InvalidRequest

DEEPEST: Final = 32  # levels of lists and objects in one value
_NESTED: Final = frozenset({list, dict})


def check_depth(value: Any, name: str) -> None:
    """Raise InvalidRequest that calls the value `name` where it is nested deeper than `DEEPEST`."""
    level = [value] if type(value) in _NESTED else []
    for _ in range(DEEPEST):
        if not level:
            return
        level = [item for outer in level for item in _items(outer) if type(item) in _NESTED]
    if level:
        raise InvalidRequest(f"{name} is nested too deeply: at most {DEEPEST} levels of lists and objects can be recorded")


def check_members(item: Mapping[str, Any], prefix: str = "", but: Set[str] = frozenset()) -> None:
    """The same for each member of an object, called by its name, `but` for those that are checked elsewhere."""
    for name, value in item.items():
        if type(value) in _NESTED and name not in but:
            check_depth(value, f"{prefix}{name:.60}")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if type(value) is dict else value
