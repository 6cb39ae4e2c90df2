"""Which sticky keys have given an outcome: as if all were kept, in a state little larger than that of those counted."""

import random
from typing import Any

import orjson
import pytest

from gateway.control.guards.heard_keys import ALL, HeardKeys
from gateway.evidence.key_bounds import KeyBounds
from gateway.routing.buckets import BUCKETS

WEIGHTS = (10_000, 50_000, 250_000, 500_000)


class Both:
    """Those heard of and those counted, beside plain bounds of either."""

    def __init__(self, counted: Any = (), most: int = 10**6) -> None:
        self.counted = KeyBounds()
        self.counted.restore(counted)
        self.heard = HeardKeys(self.counted, most)
        self.plain, self.plain_counted = KeyBounds(most), KeyBounds()

    def learn(self, weight_ppm: int, key: int, *, left: bool) -> None:
        """The key's outcome counts if it is `left` and its chance is open."""
        candidate = key < weight_ppm
        counts = left and self.counted.chance(weight_ppm, key) > 0
        if left:
            self.plain_counted.learn(weight_ppm, candidate, key)
        chance = self.heard.learn(weight_ppm, candidate, key, counts=counts)
        assert chance == self.plain.learn(weight_ppm, candidate, key)
        assert self.counted.get(key) == self.plain_counted.get(key)

    def restored(self, state: dict[str, Any]) -> "Both":
        """As it goes on from a file."""
        again = Both(orjson.loads(orjson.dumps(self.counted.to_packed())))
        again.heard.restore(orjson.loads(orjson.dumps(state)))
        again.plain, again.plain_counted = self.plain, self.plain_counted
        return again


@pytest.mark.parametrize("left", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("rising", [True, False])
def test_chances_are_those_of_all_that_is_heard(left: float, rising: bool) -> None:
    """At rising weights and at any, also after a restore, and from a state that kept all that was heard."""
    generator, both = random.Random(7), Both()
    keys = [generator.randrange(BUCKETS) for _ in range(300)]
    for number in range(2000):
        weight_ppm = WEIGHTS[number // 500] if rising else generator.choice(WEIGHTS)
        both.learn(weight_ppm, generator.choice(keys), left=generator.random() < left)
        if number % 300 == 150:
            both = both.restored(both.heard.to_json())
        elif number % 300 == 299:
            both = both.restored({ALL: both.plain.to_packed()})
        if number % 50 == 0:
            assert len(both.heard) == len(both.plain)


def test_state_grows_by_those_alone_that_have_not_counted() -> None:
    both = Both()
    for key in range(0, BUCKETS, 100):
        both.learn(500_000, key, left=key % 2000 > 0)
    counted, apart = (len(orjson.dumps(one)) for one in (both.counted.to_packed(), both.heard.to_json()))
    assert len(both.heard) == 10_000 and apart < counted / 8


def test_further_keys_are_no_evidence_once_there_are_as_many_as_count() -> None:
    both = Both(most=30)
    for key in range(20):
        both.learn(500_000, key, left=True)
    for key in range(20, 30):
        both.learn(500_000, key, left=False)
    assert both.heard.is_full
    assert both.heard.learn(500_000, True, 99, counts=True) == both.heard.learn(500_000, True, 98, counts=False) == 0.0
    assert both.counted.get(99) is not None and len(both.heard) == 30
    assert both.heard.learn(600_000, True, 3, counts=False) == 0.0, "it is known to be the candidate's"
    assert both.heard.learn(250_000, True, 3, counts=False) == 0.5
