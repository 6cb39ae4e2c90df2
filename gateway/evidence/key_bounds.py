"""What is known of sticky keys' buckets: a customer was assigned at random once, not with each request.

For each key that has been seen, the bounds between which its bucket is known to lie. A key's chance of the candidate is
the one within these bounds, and it is no evidence if that is 0 or 1: at a constant weight only the first event of a key
counts; after the ramp has risen, one more counts if the key could have moved to the candidate.
"""

from typing import Final

from gateway.evidence.key_pairs import KeyPairs
from gateway.routing.buckets import BUCKETS

UNKNOWN_BOUNDS: Final = (0, BUCKETS)


class KeyBounds(KeyPairs):
    """The bounds of at most `most` keys, by key; a further key is no evidence. None: no limit."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self._most = most

    @property
    def is_full(self) -> bool:
        """Whether new keys are no evidence any more."""
        return self._most is not None and len(self) >= self._most

    def chance(self, weight_ppm: int, key: int) -> float:
        """Return the candidate's chance for this key, given its known bounds; 0.0 if it is certain."""
        known = self.get(key)
        low, high = known or UNKNOWN_BOUNDS
        if not low < weight_ppm < high or (known is None and self.is_full):
            return 0.0
        return (weight_ppm - low) / (high - low)

    def narrow(self, weight_ppm: int, candidate: bool, key: int) -> None:
        """Note which version the key got, where its `chance` was open."""
        low, high = self.get(key) or UNKNOWN_BOUNDS
        self.set(key, (low, weight_ppm) if candidate else (weight_ppm, high))

    def learn(self, weight_ppm: int, candidate: bool, key: int) -> float:
        """Return the `chance`, and `narrow` the bounds if it was open."""
        chance = self.chance(weight_ppm, key)
        if chance:
            self.narrow(weight_ppm, candidate, key)
        return chance
