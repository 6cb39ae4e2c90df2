"""A pair of numbers for each of many sticky keys, that is kept and restored at little cost; there are few pairs."""

import base64
import zlib
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SEALED: Final = 500  # changes that are packed at once, so that a dump need not go through all keys
LOOKED_THROUGH: Final = 2  # packed ones for each further change, if most of them are out of date
WORTH_PACKING: Final = 32  # keys; a text of fewer is hardly shorter, and many take long
PARTS: Final = 64  # by the keys' last bits: a dictionary of 200,000 keys takes 5 ms to grow
Pair = tuple[int, int]
Numbers = npt.NDArray[np.int64]


class KeyPairs:
    """The pairs, by key (from 0, below 2^32)."""

    def __init__(self) -> None:
        self._parts: defaultdict[int, dict[int, Pair]] = defaultdict(dict)
        self._count = 0  # keys in the parts
        self._restored: list[Any] = []  # rows, until a key is asked for
        self._closed: dict[int, tuple[Numbers, Numbers]] = {}  # parts until one of their keys is: keys, and their rows
        self._pairs: list[Pair] = []  # of the rows
        self._packed: deque[list[Any]] = deque()
        self._latest: dict[int, Pair] = {}  # those that are not packed yet
        self._changes = 0  # those that are
        self._owed = 0  # packed ones to be looked through, some of which are out of date

    def __len__(self) -> int:
        if self._restored:
            self._unpack()
        while self._closed:
            self._open_next()
        return self._count

    def __contains__(self, key: int) -> bool:
        return self.get(key) is not None

    def get(self, key: int) -> Pair | None:
        """The key's pair; None if it has none."""
        return self._part(key).get(key)

    def set(self, key: int, pair: Pair) -> None:
        """Give the key a pair."""
        part = self._part(key)
        before = part.get(key)
        if before == pair:
            return
        part[key] = self._latest[key] = pair
        self._count += before is None
        if self._closed:
            self._open_next()  # soon all are open, and their number is known
            return
        self._owed = self._owed + LOOKED_THROUGH if self._changes > 2 * self._count else 0
        if len(self._latest) >= SEALED:
            self._seal()
        elif self._owed >= SEALED:
            self._look_through()

    def clear(self) -> None:
        """Forget all."""
        self._parts.clear()
        self._closed.clear()
        self._count, self._changes, self._owed, self._restored, self._pairs = 0, 0, 0, [], []
        self._packed, self._latest = deque(), {}

    def to_json(self) -> list[list[Any]]:
        """Return rows of pairs and their keys."""
        len(self)
        everything = {key: pair for part in self._parts.values() for key, pair in part.items()}
        return [[*pair, keys] for pair, keys in _by_pair(everything)]

    def to_packed(self) -> list[list[Any]]:
        """As `to_json`, with most keys in texts of two to three characters a key. A later row on a key replaces one
        before it. Costs little, however many keys there are.
        """
        return [*self._restored, *self._packed, *([*pair, keys] for pair, keys in _by_pair(self._latest))]

    def restore(self, rows: Iterable[Any]) -> None:
        """Restore the output of `to_json` or `to_packed`. That costs nothing until a key is asked for: hosts that
        follow a leader restore its state again and again. If it is damaged, ValueError is raised then, each time.
        """
        self.clear()
        self._restored = list(rows)

    def _part(self, key: int) -> dict[int, Pair]:
        """The dictionary that the key belongs to."""
        if self._restored:
            self._unpack()
        number = key % PARTS
        if number in self._closed:
            self._open(number)
        return self._parts[number]

    def _unpack(self) -> None:
        """Sort what is restored into parts, which become dictionaries one by one: all at once would take 0.1 s."""
        rows = self._restored
        try:
            found = [_unpacked(keys) if isinstance(keys, str) else np.array(keys, np.int64) for *_, keys in rows]
            pairs = [(first, second) for first, second, _ in rows]
        except (ValueError, TypeError, zlib.error) as error:  # it stays so: forgotten, keys would count once more
            raise ValueError(f"the sticky keys that have failed, as they were kept, are damaged: {error}") from None
        self._restored, self._pairs = [], pairs
        for pair, (*_, keys) in zip(pairs, rows, strict=True):
            self._packed += [[*pair, keys]] if isinstance(keys, str) else _packed_rows(pair, keys)
        numbers = np.concatenate(found)
        of_row = np.repeat(np.arange(len(rows)), [len(keys) for keys in found])
        part = (numbers % PARTS).astype(np.uint8)
        order, ends = np.argsort(part, kind="stable"), np.cumsum(np.bincount(part, minlength=PARTS))[:-1]
        parted = zip(np.split(numbers[order], ends), np.split(of_row[order], ends), strict=True)
        self._closed = dict(enumerate(parted))
        self._changes = len(numbers)

    def _open_next(self) -> None:
        self._open(next(iter(self._closed)))

    def _open(self, number: int) -> None:
        keys, rows = self._closed.pop(number)
        pairs = (self._pairs[row] for row in rows.tolist())
        self._parts[number] = dict(zip(keys.tolist(), pairs, strict=True))
        self._count += len(self._parts[number])

    def _seal(self) -> None:
        """Pack the latest changes."""
        packing, self._latest = self._latest, {}
        for pair, keys in _by_pair(packing):
            self._packed += _packed_rows(pair, keys)
        self._changes += len(packing)

    def _look_through(self) -> None:
        """Throw away what is out of date in the oldest row: in all at once it would take 0.1 s."""
        first, second, packed = self._packed.popleft()
        keys, pair = _unpacked(packed).tolist() if isinstance(packed, str) else packed, (first, second)
        self._owed -= len(keys)
        self._changes -= len(keys)
        self._latest.update((key, pair) for key in keys if self._parts[key % PARTS].get(key) == pair)


def _by_pair(known: Mapping[int, Pair]) -> Iterable[tuple[Pair, list[int]]]:
    """The keys of each pair, of which there are few."""
    grouped: defaultdict[Pair, list[int]] = defaultdict(list)
    for key, pair in known.items():
        grouped[pair].append(key)
    return grouped.items()


def _packed_rows(pair: Pair, keys: list[int]) -> list[list[Any]]:
    """Rows of at most SEALED keys, so that it takes little to look through one."""
    if len(keys) < WORTH_PACKING:
        return [[*pair, keys]] if keys else []
    return [[*pair, _packed(keys[first : first + SEALED])] for first in range(0, len(keys), SEALED)]


def _packed(keys: list[int]) -> str:
    numbers = np.array(keys, "<u4")
    numbers.sort()
    steps = numbers.copy()
    steps[1:] -= numbers[:-1]
    return base64.b64encode(zlib.compress(steps.tobytes(), 1)).decode()


def _unpacked(text: str) -> Numbers:
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4")
    return np.cumsum(steps, dtype=np.int64)
