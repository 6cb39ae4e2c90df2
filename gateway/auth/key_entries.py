"""Reads the entries of the key file. After a change it parses only those that are new.

`gateway keys` writes an entry as a block of lines that begins with "- ". A known block keeps its meaning, so with
50,000 keys a new one costs a comparison of the blocks, where YAML takes 15 s. A file of any other form is parsed whole.
No step holds the interpreter's lock for long: on a thread, reading does not hold up the event loop.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from gateway.errors import SettingsError
from gateway.settings.keys import KeySettings, keys_text, parse_keys

T = TypeVar("T")
BLOCKS_AT_ONCE: Final = 20  # blocks parsed at once: about as long as another thread waits for its turn
_BEGIN: Final = "keys:\n"
_HEAD: Final = re.compile(r"(?:#[^\n]*\n)*keys:\n(?=- )")
_BLOCK: Final = re.compile(r"- [^\n]*\n(?:  [^\n]*\n)*")
_SHARED: Final = re.compile(r"[&*!]|<<|---|\.\.\.")  # what one entry could mean in another, or the end of a document


class KeyEntries(Generic[T]):
    """Of one file, each as what `make` makes of it. To be read by one thread at a time."""

    def __init__(self, path: Path, make: Callable[[KeySettings], T]) -> None:
        self._path = path
        self._make = make
        self._known: dict[str, T] = {}

    def read(self) -> Sequence[T]:
        """The keys as they are now; raises SettingsError. Whether two are the same is not looked at."""
        text = keys_text(self._path)
        blocks = self._blocks(text)
        if blocks is not None:
            try:
                self._learn([block for block in blocks if block not in self._known])
            except SettingsError:
                blocks = None  # the whole file says in which line
        if blocks is None:
            return [self._make(key) for key in parse_keys(text, self._path).keys]
        if len(self._known) > 2 * len(blocks):
            self._known = {block: self._known[block] for block in blocks}
        return [self._known[block] for block in blocks]

    def _blocks(self, text: str) -> list[str] | None:
        """One for each entry, where the file has that form."""
        head = _HEAD.match(text)
        if head is None:
            return None
        blocks: list[str] = []
        at = head.end()
        while at < len(text):
            found = _BLOCK.match(text, at)
            if found is None or (found[0] not in self._known and _SHARED.search(found[0])):
                return None
            blocks.append(found[0])
            at = found.end()
        return blocks

    def _learn(self, blocks: list[str]) -> None:
        for group in _groups(blocks):
            found = parse_keys(_BEGIN + "".join(group), self._path).keys
            if len(found) != len(group):
                raise SettingsError(
                    str(self._path),
                    [
                        "two entries cannot be separated; write each key as one entry"
                        " list item, as `gateway keys add` does"
                    ],
                )
            self._known.update(zip(group, map(self._make, found), strict=True))
            time.sleep(0)  # the event loop may want to go on


def _groups(blocks: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(blocks), BLOCKS_AT_ONCE):
        yield blocks[start : start + BLOCKS_AT_ONCE]
