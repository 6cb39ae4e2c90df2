"""Which slot of the boards belongs to which version or release."""

from collections.abc import Iterator

from gateway.errors import SettingsError


class Slots:
    """Gives each name a slot, and the same one for ever; raises SettingsError when they are used up."""

    def __init__(self, capacity: int, what: str) -> None:
        self._capacity = capacity
        self._what = what
        self._given: dict[tuple[str, int], int] = {}

    def of(self, name: str, version: int) -> int:
        key = name, version
        if key not in self._given and len(self._given) == self._capacity:
            problem = f"{self._capacity} {self._what} have been served since the start, which is the most; restart"
            raise SettingsError("routing.yaml", [problem])
        return self._given.setdefault(key, len(self._given))

    def items(self) -> Iterator[tuple[tuple[str, int], int]]:
        yield from sorted(self._given.items())
