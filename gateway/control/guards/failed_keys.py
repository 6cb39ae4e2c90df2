"""Sticky keys that have failed since the evidence began: what it knows where customers keep their version.

For harm, the first failure of a key since then counts (see `log_harm`), and that alone does not do for calling a
candidate safe: keys of a worse version fail sooner, and so it has fewer of them left that may fail for the first time,
which makes it seem better and better. So all failures of a key are counted here; `log_safety` says how.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from gateway.control.guards.evidence import MOST_TOLD, FailedByChance
from gateway.evidence.key_pairs import KeyPairs
from gateway.routing.buckets import BUCKETS

MOST_KEYS: Final = 200_000  # some 30 MB; failures of further keys are no evidence
_Record = tuple[int, int]  # weight in ppm by which the key counts; its failures, as a negative number if it is stable's


class FailedKeys:
    """The keys that have failed since the evidence began. `most`: of those that are known."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._records = KeyPairs()
        self._numbers: Counter[_Record] = Counter()

    @property
    def counts(self) -> FailedByChance:
        """How many keys there are, for `log_safety`."""
        return {
            (weight_ppm / BUCKETS, failures > 0, abs(failures)): number
            for (weight_ppm, failures), number in self._numbers.items()
        }

    def add(self, weight_ppm: int, candidate: bool, key: int) -> bool:
        """Count a failure of this key, that was assigned by `weight_ppm`; return whether it is its first, and counts. A
        key that both versions have failed, as on routes with different weights, is the candidate's, which is the weaker
        evidence; so is the lower weight.
        """
        known = self._records.get(key)
        if known is None:
            if self._numbers.total() >= self._most:
                return False
            self._set(key, (weight_ppm, 1 if candidate else -1))
            return True
        before, failures = known
        if not candidate and failures > 0:
            return False
        self._numbers[known] -= 1
        if not self._numbers[known]:
            del self._numbers[known]
        failures = min(abs(failures) + 1, MOST_TOLD)
        is_candidates = candidate or known[1] > 0
        self._set(key, (min(before, weight_ppm), failures if is_candidates else -failures))
        return False

    def clear(self) -> None:
        """Forget all."""
        self._records.clear()
        self._numbers = Counter()

    def to_json(self) -> dict[str, Any]:
        """Return `keys` as `KeyPairs.to_packed`; how many `count`: rows of (weight in ppm, failures, keys)."""
        return {
            "keys": self._records.to_packed(),
            "count": [[*record, number] for record, number in self._numbers.items()],
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`, nothing from an empty one. Costs little until a key fails."""
        self._records.restore(kept.get("keys", ()))
        self._numbers = Counter(
            {(weight_ppm, failures): number for weight_ppm, failures, number in kept.get("count", ())}
        )

    def _set(self, key: int, record: _Record) -> None:
        self._records.set(key, record)
        self._numbers[record] += 1
