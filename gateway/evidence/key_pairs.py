"""A pair of numbers for each of many sticky keys, that is kept and restored at little cost; there are few pairs."""

import base64
import zlib
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SEALED: Final = 1000  # changes that are packed at once, so that a dump need not go through all keys
REPACKED: Final = (
    2 * SEALED
)  # earlier ones that are looked through then, if most of all that are packed are out of date
Pair = tuple[int, int]


class KeyPairs:
    """The pairs, by key (from 0, below 2^32)."""

    def __init__(self) -> None:
        self._unpacked: dict[int, Pair] = {}
        self._restored: list[tuple[Pair, npt.NDArray[np.int64]]] = []  # which need not be unpacked to be kept
        self._packed: deque[list[Any]] = deque()
        self._latest: dict[int, Pair] = {}  # those that are not packed yet
        self._changes = 0  # those that are

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: int) -> bool:
        return key in self._known

    def get(self, key: int) -> Pair | None:
        """The key's pair; None if it has none."""
        return self._known.get(key)

    def set(self, key: int, pair: Pair) -> None:
        """Give the key a pair."""
        known = self._known
        if known.get(key) == pair:
            return
        known[key] = self._latest[key] = pair
        if len(self._latest) >= SEALED:
            self._seal()

    def clear(self) -> None:
        """Forget all."""
        self._unpacked, self._restored, self._packed, self._latest, self._changes = {}, [], deque(), {}, 0

    def to_json(self) -> list[list[Any]]:
        """Return rows of pairs and their keys."""
        return [[*pair, keys] for pair, keys in _by_pair(self._known)]

    def to_packed(self) -> list[list[Any]]:
        """As `to_json`, with most keys in texts of two to three characters a key. A later row on a key replaces one
        before it. Costs little, however many keys there are.
        """
        return [*self._packed, *([*pair, keys] for pair, keys in _by_pair(self._latest))]

    def restore(self, rows: Iterable[Any]) -> None:
        """Restore the output of `to_json` or `to_packed`. What is packed costs little until a key is asked for: hosts
        that follow a leader restore its state again and again.
        """
        self.clear()
        for first, second, keys in rows:
            numbers = _unpacked(keys) if isinstance(keys, str) else np.array(keys, np.int64)
            self._restored.append(((first, second), numbers))
            self._packed += [[first, second, keys]] if isinstance(keys, str) else _packed_rows((first, second), keys)
            self._changes += len(numbers)

    @property
    def _known(self) -> dict[int, Pair]:
        if self._restored:
            for pair, keys in self._restored:
                self._unpacked.update(dict.fromkeys(keys.tolist(), pair))
            self._restored = []
        return self._unpacked

    def _seal(self) -> None:
        """Pack the latest changes. What is out of date is thrown away bit by bit: all at once would take 0.1 s."""
        packing, self._latest, looked_through = self._latest, {}, 0
        while looked_through < REPACKED and self._changes > 2 * len(self._known):
            first, second, text = self._packed.popleft()
            keys = _unpacked(text).tolist()
            looked_through += len(keys)
            self._changes -= len(keys)
            packing.update((key, (first, second)) for key in keys if self._known[key] == (first, second))
        for pair, keys in _by_pair(packing):
            self._packed += _packed_rows(pair, keys)
        self._changes += len(packing)


def _by_pair(known: Mapping[int, Pair]) -> Iterable[tuple[Pair, list[int]]]:
    """The keys of each pair, of which there are few."""
    grouped: defaultdict[Pair, list[int]] = defaultdict(list)
    for key, pair in known.items():
        grouped[pair].append(key)
    return grouped.items()


def _packed_rows(pair: Pair, keys: list[int]) -> list[list[Any]]:
    """Rows of at most SEALED keys, so that it takes little to look through one."""
    return [[*pair, _packed(keys[first : first + SEALED])] for first in range(0, len(keys), SEALED)]


def _packed(keys: list[int]) -> str:
    steps = np.diff(np.sort(np.array(keys, np.int64)), prepend=0).astype("<u4")
    return base64.b64encode(zlib.compress(steps.tobytes(), 1)).decode()


def _unpacked(text: str) -> npt.NDArray[np.int64]:
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4")
    return np.cumsum(steps, dtype=np.int64)
