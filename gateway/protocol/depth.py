"""How deep what clients send may be nested: records are read, joined and written again by tools that have their limits.

orjson parses 1,024 levels and writes 254, log shippers often read 128, and a record adds some. What can be answered
must be recorded and exported.
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

from gateway.errors import InvalidRequest

MAX_DEPTH: Final = 32  # levels of lists and objects in one value
_NESTED: Final = frozenset({list, dict})
TENSOR: Final = frozenset({"data", "shape"})  # of an input: bounded by their own form
LISTS: Final = frozenset({"inputs", "outputs"})  # of a request: their items are checked one by one


def check_depth(value: Any, name: str) -> None:
    """Raise InvalidRequest that calls the value `name` where it is nested deeper than `MAX_DEPTH`."""
    level = [value] if type(value) in _NESTED else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [item for outer in level for item in _items(outer) if type(item) in _NESTED]
    if level:
        raise InvalidRequest(
            f"{name} is nested too deeply: at most {MAX_DEPTH} levels of lists and objects are recorded"
        )


def check_members(item: Mapping[str, Any], but: Set[str] = frozenset()) -> None:
    """The same for all that a request, an input or an output holds, known keys or not, but for those in `but`."""
    for name, value in item.items():
        if type(value) not in _NESTED or name in but:
            continue
        if name != "parameters" or type(value) is list:
            check_depth(value, f"{name:.60}")
        elif not _NESTED.isdisjoint(map(type, value.values())):  # as it is for nearly all
            for parameter, one in value.items():
                check_depth(one, f"parameters.{parameter:.60}")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if type(value) is dict else value
