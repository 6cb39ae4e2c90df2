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
        _check_members(document, "", _LISTS)
        for index, item in enumerate(document.get("outputs") or ()):
            _check_members(item, f"outputs[{index}] '{item['name']:.60}': ", _NONE)
    for index, item in enumerate(document["inputs"]):
        if len(item) > _PLAIN or "data" not in item:
            _check_members(item, f"inputs[{index}] '{item['name']:.60}': ", _TENSOR)


def _check_members(item: Mapping[str, Any], place: str, but: Set[str]) -> None:
    for name, value in item.items():
        if name == "parameters" and value:
            for parameter, one in value.items():
                check_depth(one, f"{place}parameters.{parameter:.60}")
        elif type(value) in _NESTED and name not in but:
            check_depth(value, f"{place}{name:.60}")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if type(value) is dict else value
