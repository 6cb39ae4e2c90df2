"""Sticky keys that have failed since the evidence began: what `log_safety` knows where customers keep their version.

A key is one piece of evidence, since its failures repeat. But its first failure alone does not do for calling a
candidate safe: keys of a worse version fail sooner, and so it has fewer of them left that may fail for the first time,
which makes it seem better and better. So all failures of the candidate's keys are counted here; `log_safety` says how.

Failures that follow each other, as retries of one request, are one: BURST_NS from the first of them on. While it lasts,
the candidate's key cannot fail anew, which would make the candidate seem better where keys fail every few seconds. So
keys of stable count later by as much as several bursts (that as many of them in a row do not count is rare).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from gateway.control.guards.evidence import MOST_TOLD, FailedByChance
from gateway.evidence.key_pairs import KeyPairs
from gateway.routing.buckets import BUCKETS

MOST_KEYS: Final = 200_000  # some 20 MB; failures of further keys are no evidence
BURST_NS: Final = 4 * 10**9
STABLE_LATER_NS: Final = 3 * BURST_NS  # that none of more than three bursts counts has a chance of 1 in 81
_Record = tuple[int, int]  # weight in ppm by which the key counts; failures if it is the candidate's, 0 if stable's


class FailedKeys:
    """The keys that have failed since the evidence began. `most`: of those that are known."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._records = KeyPairs()
        self._numbers: Counter[_Record] = Counter()
        self._bursts: dict[int, int] = {}  # the candidate's keys whose latest may go on, and when it began
        self._later: list[tuple[int, int]] = []  # when a key of stable begins to count; its weight in ppm

    @property
    def counts(self) -> FailedByChance:
        """How many keys there are, for `log_safety`."""
        return {(weight_ppm / BUCKETS, failures): number for (weight_ppm, failures), number in self._numbers.items()}

    def add(self, weight_ppm: int, candidate: bool, key: int, time_ns: int | None = None) -> None:
        """Count a failure of this key, that was assigned by `weight_ppm`. `time_ns`: None if it is no part of a burst.
        Of a key that stable has failed nothing more counts; nor does stable's failure of a key that the candidate has
        failed.
        """
        known = self._records.get(key)
        if known is None:
            if len(self._records) < self._most:
                self._begin((weight_ppm, int(candidate)), key, time_ns)
        elif candidate and known[1] and not self._is_of_burst(key, time_ns):
            self._numbers[known] -= 1
            if not self._numbers[known]:
                del self._numbers[known]
            later = min(known[0], weight_ppm), min(known[1] + 1, MOST_TOLD)  # the lower weight is the weaker evidence
            self._set(key, later)

    def pass_time(self, time_ns: int) -> bool:
        """Count what counts by now; return whether there was anything."""
        due = [weight_ppm for due_ns, weight_ppm in self._later if due_ns <= time_ns]
        self._later = [one for one in self._later if one[0] > time_ns]
        self._bursts = {key: began_ns for key, began_ns in self._bursts.items() if time_ns - began_ns < BURST_NS}
        self._numbers.update((weight_ppm, 0) for weight_ppm in due)
        return bool(due)

    def clear(self) -> None:
        """Forget all."""
        self._records.clear()
        self._numbers, self._bursts, self._later = Counter(), {}, []

    def to_json(self) -> dict[str, Any]:
        """Return `keys` as `KeyPairs.to_packed`; how many `count`: rows of (weight in ppm, failures, keys);
        `bursts` and `later`.
        """
        return {
            "keys": self._records.to_packed(),
            "count": [[*record, number] for record, number in self._numbers.items()],
            "bursts": [*self._bursts.items()],
            "later": self._later[:],
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`, nothing from an empty one. Costs little until a key fails."""
        self.clear()
        self._records.restore(kept.get("keys", ()))
        self._numbers = Counter(
            {(weight_ppm, failures): number for weight_ppm, failures, number in kept.get("count", ())}
        )
        self._bursts = {key: began_ns for key, began_ns in kept.get("bursts", ())}
        self._later = [(due_ns, weight_ppm) for due_ns, weight_ppm in kept.get("later", ())]

    def _begin(self, record: _Record, key: int, time_ns: int | None) -> None:
        if record[1] or time_ns is None:
            self._set(key, record)
            self._is_of_burst(key, time_ns)
        else:
            self._records.set(key, record)
            self._later.append((time_ns + STABLE_LATER_NS, record[0]))

    def _is_of_burst(self, key: int, time_ns: int | None) -> bool:
        """Whether a failure of the candidate's key is part of its latest burst; if not, another one begins."""
        if time_ns is None:
            return False
        began_ns = self._bursts.get(key)
        if began_ns is not None and abs(time_ns - began_ns) < BURST_NS:
            return True
        self._bursts[key] = time_ns
        return False

    def _set(self, key: int, record: _Record) -> None:
        self._records.set(key, record)
        self._numbers[record] += 1
