"""Sticky keys that have given an outcome, whether it counts or not. Most of them have counted, and are known there."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.evidence.key_bounds import UNKNOWN_BOUNDS, KeyBounds

APART: Final = "heard_apart"
ONLY: Final = "heard_only"
ALL: Final = "heard"


class HeardKeys:
    """The bounds of their buckets: of each key those of `counted`, unless others are kept here. So the state is little
    larger than that of `counted` where thinning leaves most outcomes: a fleet's store takes 1.5 MB.

    `most`: with as many keys, a further one is no evidence; `counted` may take more, of which no number is said.
    """

    def __init__(self, counted: KeyBounds, most: int) -> None:
        self._counted = counted
        self._most = most
        self._apart = KeyBounds()
        self._only: int | None = 0  # keys that have not counted; None: to be found out

    def __len__(self) -> int:
        if self._only is None:
            self._only = sum(key not in self._counted for *_, keys in self._apart.to_json() for key in keys)
        return min(len(self._counted) + self._only, self._most)

    @property
    def is_full(self) -> bool:
        """Whether new keys are no evidence any more."""
        return len(self) >= self._most

    def learn(self, weight_ppm: int, candidate: bool, key: int, *, counts: bool) -> float:
        """Return the candidate's chance for this key; 0.0 if it is certain. Note which version the key got, also among
        those counted if it `counts` there, where its chance must be open.
        """
        apart, counted = self._apart.get(key), self._counted.get(key)
        known = apart or counted
        low, high = known or UNKNOWN_BOUNDS
        is_open = low < weight_ppm < high and (known is not None or not self.is_full)
        if counts:
            self._counted.narrow(weight_ppm, candidate, key)
            if counted is None and apart is not None and self._only is not None:
                self._only -= 1
        if not is_open:
            return 0.0
        found = (low, weight_ppm) if candidate else (weight_ppm, high)
        if apart is not None or self._counted.get(key) != found:
            self._apart.set(key, found)
            if known is None and not counts and self._only is not None:
                self._only += 1
        return (weight_ppm - low) / (high - low)

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file, without that of `counted`."""
        return {APART: self._apart.to_packed(), ONLY: self._only}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`, after that of `counted`. Costs little, as `KeyBounds.restore`. Earlier
        gateways kept all that was heard, or only what has counted.
        """
        self._apart.restore(kept.get(APART, kept.get(ALL, ())))
        self._only = kept.get(ONLY, None if ALL in kept else 0)
