"""How deep what clients send may be nested: records are read, joined and written again by tools that have their limits.

orjson parses 1,024 levels and writes 254, log shippers often read 128, and a record adds some. What can be answered
must be recorded and exported.
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

from gateway.errors import InvalidRequest

DEEPEST: Final = 32  # levels of lists and objects in one value
_NESTED: Final = frozenset({list, dict})
_PLAIN: Final = 4  # members of an input: name, shape, datatype and data
_TENSOR: Final = frozenset({"data", "shape"})  # bounded by their own form
_LISTS: Final = frozenset({"inputs", "outputs"})
_NONE: Final[Set[str]] = frozenset()


def check_depth(value: Any, name: str) -> None:
    """Raise InvalidRequest that calls the value `name` where it is nested deeper than `DEEPEST`."""
    level = [value] if type(value) in _NESTED else []
    for _ in range(DEEPEST):
        if not level:
            return
        level = [item for outer in level for item in _items(outer) if type(item) in _NESTED]
    if level:
        raise InvalidRequest(f"{name} is nested too deeply: at most {DEEPEST} levels of lists and objects are recorded")


def check_request(document: Mapping[str, Any]) -> None:
    """The same for all that a V2 request holds beside its tensors, which have been read already: known keys or not.

    A request of tensors alone costs a look at its lengths.
    """
    if len(document) > 1:
        _check_members(document, _LISTS)
        if outputs := document.get("outputs"):
            for index, item in enumerate(outputs):
                _check_members(item, _NONE, "outputs", index)
    for index, item in enumerate(document["inputs"]):
        if len(item) > _PLAIN or "data" not in item:
            _check_members(item, _TENSOR, "inputs", index)


def _check_members(item: Mapping[str, Any], but: Set[str], within: str = "", index: int = 0) -> None:
    """`within` and `index`: in which of the request's lists the item stands, and where."""
    for name, value in item.items():
        if type(value) not in _NESTED or name in but:
            continue
        if name == "parameters" and _NESTED.isdisjoint(map(type, value.values())):
            continue  # as nearly all are
        place = f"{within}[{index}] '{item['name']:.60}': " if within else ""
        if name != "parameters":
            check_depth(value, f"{place}{name:.60}")
            continue
        for parameter, one in value.items():
            check_depth(one, f"{place}parameters.{parameter:.60}")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if type(value) is dict else value
