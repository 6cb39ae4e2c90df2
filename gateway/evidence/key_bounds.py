"""What is known of sticky keys' buckets: a customer was assigned at random once, not with each request.

For each key that has been seen, the bounds between which its bucket is known to lie. A key's chance of the candidate is
the one within these bounds, and it is no evidence if that is 0 or 1: at a constant weight only the first event of a key
counts; after the ramp has risen, one more counts if the key could have moved to the candidate.
"""

import base64
import zlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.routing.buckets import BUCKETS

UNKNOWN_BOUNDS: Final = (0, BUCKETS)
SEALED: Final = 1000  # events that are packed at once, so that a dump need not go through all keys
Bounds = tuple[int, int]


class KeyBounds:
    """The bounds of at most `most` keys, by key; a further key is no evidence. None: no limit."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._unpacked: dict[int, Bounds] = {}
        self._restored: list[tuple[Bounds, npt.NDArray[np.int64]]] = []  # which need not be unpacked to be kept
        self._packed: list[list[Any]] = []
        self._latest: dict[int, Bounds] = {}  # those that are not packed yet
        self._events = 0  # those that are

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: int) -> bool:
        return key in self._known

    @property
    def is_full(self) -> bool:
        """Whether new keys are no evidence any more."""
        return self._most is not None and len(self._known) >= self._most

    @property
    def _known(self) -> dict[int, Bounds]:
        if self._restored:
            for bounds, keys in self._restored:
                self._unpacked.update(dict.fromkeys(keys.tolist(), bounds))
            self._restored = []
        return self._unpacked

    def learn(self, weight_ppm: int, candidate: bool, key: int) -> float:
        """Return the candidate's chance for this key, given its known bounds (0.0 if it was certain); narrow them."""
        low, high = known = self._known.get(key, UNKNOWN_BOUNDS)
        if not low < weight_ppm < high or (known is UNKNOWN_BOUNDS and self.is_full):
            return 0.0
        self._known[key] = self._latest[key] = (low, weight_ppm) if candidate else (weight_ppm, high)
        if len(self._latest) >= SEALED:
            self._seal()
        return (weight_ppm - low) / (high - low)

    def clear(self) -> None:
        """Forget all, for a new epoch."""
        self._unpacked, self._restored, self._packed, self._latest, self._events = {}, [], [], {}, 0

    def to_json(self) -> list[list[Any]]:
        """Return rows of bounds and their keys: there are few bounds."""
        return [[*bounds, keys] for bounds, keys in _by_bounds(self._known)]

    def to_packed(self) -> list[list[Any]]:
        """As `to_json`, with most keys in texts of two to three characters a key. A later row on a key replaces one
        before it. Costs little, however many keys there are.
        """
        return [*self._packed, *([*bounds, keys] for bounds, keys in _by_bounds(self._latest))]

    def restore(self, rows: Iterable[Any]) -> None:
        """Restore the output of `to_json` or `to_packed`. What is packed costs little until a key is asked for: hosts
        that follow a leader restore its state again and again.
        """
        self.clear()
        for low, high, keys in rows:
            numbers = unpacked_keys(keys) if isinstance(keys, str) else np.array(keys, np.int64)
            self._restored.append(((low, high), numbers))
            self._packed.append([low, high, keys if isinstance(keys, str) else packed_keys(keys)])
            self._events += len(numbers)

    def _seal(self) -> None:
        if self._events > 2 * len(self._known):  # most of it has been replaced
            self._packed, self._events = [], 0
            self._latest = self._known
        self._pack(self._latest)
        self._latest = {}

    def _pack(self, known: dict[int, Bounds]) -> None:
        self._packed += [[*bounds, packed_keys(keys)] for bounds, keys in _by_bounds(known)]
        self._events += len(known)


def _by_bounds(known: dict[int, Bounds]) -> Iterable[tuple[Bounds, list[int]]]:
    """The keys of each bounds, of which there are few."""
    grouped: defaultdict[Bounds, list[int]] = defaultdict(list)
    for key, bounds in known.items():
        grouped[bounds].append(key)
    return grouped.items()


def packed_keys(keys: list[int]) -> str:
    """Keys as a text of two to three characters each."""
    steps = np.diff(np.sort(np.array(keys, np.int64)), prepend=0).astype("<u4")
    return base64.b64encode(zlib.compress(steps.tobytes(), 1)).decode()


def unpacked_keys(text: str) -> npt.NDArray[np.int64]:
    """Return the keys of such a text, in ascending order."""
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4")
    return np.cumsum(steps, dtype=np.int64)
