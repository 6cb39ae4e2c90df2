"""A pair of numbers for each of many sticky keys, that is kept and restored at little cost; there are few pairs."""

import base64
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SEALED: Final = 1000  # changes that are packed at once, so that a dump need not go through all keys
Pair = tuple[int, int]


class KeyPairs:
    """The pairs, by key (from 0, below 2^32)."""

    def __init__(self) -> None:
        self._unpacked: dict[int, Pair] = {}
        self._restored: list[tuple[Pair, npt.NDArray[np.int64]]] = []  # which need not be unpacked to be kept
        self._packed: list[list[Any]] = []
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
        self._known[key] = self._latest[key] = pair
        if len(self._latest) >= SEALED:
            self._seal()

    def clear(self) -> None:
        """Forget all."""
        self._unpacked, self._restored, self._packed, self._latest, self._changes = {}, [], [], {}, 0

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
            self._packed.append([first, second, keys if isinstance(keys, str) else _packed(keys)])
            self._changes += len(numbers)

    @property
    def _known(self) -> dict[int, Pair]:
        if self._restored:
            for pair, keys in self._restored:
                self._unpacked.update(dict.fromkeys(keys.tolist(), pair))
            self._restored = []
        return self._unpacked

    def _seal(self) -> None:
        if self._changes > 2 * len(self._known):  # most of it has been replaced
            self._packed, self._changes = [], 0
            self._latest = self._known
        self._pack(self._latest)
        self._latest = {}

    def _pack(self, known: Mapping[int, Pair]) -> None:
        self._packed += [[*pair, _packed(keys)] for pair, keys in _by_pair(known)]
        self._changes += len(known)


def _by_pair(known: Mapping[int, Pair]) -> Iterable[tuple[Pair, list[int]]]:
    """The keys of each pair, of which there are few."""
    grouped: defaultdict[Pair, list[int]] = defaultdict(list)
    for key, pair in known.items():
        grouped[pair].append(key)
    return grouped.items()


def _packed(keys: list[int]) -> str:
    steps = np.diff(np.sort(np.array(keys, np.int64)), prepend=0).astype("<u4")
    return base64.b64encode(zlib.compress(steps.tobytes(), 1)).decode()


def _unpacked(text: str) -> npt.NDArray[np.int64]:
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4")
    return np.cumsum(steps, dtype=np.int64)
