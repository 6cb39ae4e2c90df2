"""Sticky keys that have failed since the evidence began: what `log_safety` knows where customers keep their version.

A key is one piece of evidence, since its failures repeat. But its first failure alone does not do for calling a
candidate safe: keys of a worse version fail sooner, and so it has fewer of them left that may fail for the first time,
which makes it seem better and better. So all failures of the candidate's keys are counted here; `log_safety` says how.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final

from gateway.control.guards.evidence import MOST_TOLD, FailedByChance
from gateway.evidence.key_bounds import packed_keys, unpacked_keys
from gateway.routing.buckets import BUCKETS

MOST_KEYS: Final = 200_000  # some 20 MB; failures of further keys are no evidence
_Record = tuple[int, int]  # weight in ppm by which the key counts; failures if it is the candidate's, 0 if stable's


class FailedKeys:
    """The keys that have failed since the evidence began. `most`: of those that are known."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._records: dict[int, _Record] = {}
        self._numbers: Counter[_Record] = Counter()
        self._restored: Sequence[Sequence[Any]] = ()  # what need not be unpacked until a key fails

    @property
    def counts(self) -> FailedByChance:
        """How many keys there are, for `log_safety`."""
        return {(weight_ppm / BUCKETS, failures): number for (weight_ppm, failures), number in self._numbers.items()}

    def add(self, weight_ppm: int, candidate: bool, key: int) -> None:
        """Count a failure of this key, that was assigned by `weight_ppm`. Of a key that stable has failed nothing more
        counts; nor does stable's failure of a key that the candidate has failed.
        """
        self._unpack()
        known = self._records.get(key)
        if known is None:
            if len(self._records) < self._most:
                self._set(key, (weight_ppm, int(candidate)))
        elif candidate and 0 < known[1] < MOST_TOLD:
            self._numbers[known] -= 1
            if not self._numbers[known]:
                del self._numbers[known]
            self._set(key, (min(known[0], weight_ppm), known[1] + 1))  # the lower weight is the weaker evidence

    def clear(self) -> None:
        """Forget all."""
        self._records, self._numbers, self._restored = {}, Counter(), ()

    def to_json(self) -> list[list[Any]]:
        """Return rows of (weight in ppm, failures, number of keys, the keys, packed)."""
        if self._restored:
            return [[*row] for row in self._restored]
        grouped: defaultdict[_Record, list[int]] = defaultdict(list)
        for key, record in self._records.items():
            grouped[record].append(key)
        return [[*record, len(keys), packed_keys(keys)] for record, keys in grouped.items()]

    def restore(self, rows: Sequence[Sequence[Any]]) -> None:
        """Restore the output of `to_json`. Costs little until a key fails: hosts that follow a leader do so often."""
        self.clear()
        self._restored = rows
        self._numbers = Counter({(weight_ppm, failures): number for weight_ppm, failures, number, _ in rows})

    def _set(self, key: int, record: _Record) -> None:
        self._records[key] = record
        self._numbers[record] += 1

    def _unpack(self) -> None:
        for weight_ppm, failures, _, keys in self._restored:
            self._records.update(dict.fromkeys(unpacked_keys(keys).tolist(), (weight_ppm, failures)))
        self._restored = ()
