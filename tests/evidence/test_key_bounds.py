"""What is known of sticky keys, as it is used and as it is kept."""

import random

import orjson
import pytest

from gateway.evidence.key_bounds import KeyBounds
from gateway.evidence.key_pairs import SEALED


def test_first_event_of_a_key_has_the_weight_as_its_chance_and_the_next_none() -> None:
    keys = KeyBounds()
    assert [keys.learn(100_000, True, 7), keys.learn(100_000, True, 7)] == [0.1, 0.0]


def test_key_that_could_move_has_the_chance_that_is_left() -> None:
    keys = KeyBounds()
    keys.learn(100_000, False, 500_000)
    assert keys.learn(550_000, True, 500_000) == pytest.approx(0.5)
    assert keys.learn(550_000, True, 500_000) == 0.0
    assert keys.learn(300_000, False, 500_000) == pytest.approx(0.2 / 0.45)


def test_no_key_beyond_the_limit_is_evidence() -> None:
    keys = KeyBounds(2)
    assert [keys.learn(100_000, key < 100_000, key) for key in (1, 900_000, 3)] == [0.1, 0.1, 0.0]
    assert keys.learn(500_000, False, 900_000) == pytest.approx(4 / 9) and keys.is_full and len(keys) == 2


@pytest.mark.parametrize("weights", [(10_000,), (10_000, 50_000, 250_000, 900_000)])
def test_keys_come_back_from_both_forms(weights: tuple[int, ...]) -> None:
    generator = random.Random(3)
    keys, packed, plain = KeyBounds(), KeyBounds(), KeyBounds()
    buckets = [generator.randrange(1_000_000) for _ in range(3 * SEALED)]
    for weight in weights:
        for bucket in buckets:
            keys.learn(weight, bucket < weight, bucket)
    packed.restore(orjson.loads(orjson.dumps(keys.to_packed())))
    plain.restore(orjson.loads(orjson.dumps(keys.to_json())))
    assert len(orjson.dumps(packed.to_packed())) < 8 * len(keys)
    again = KeyBounds()
    again.restore(packed.to_packed())
    for bucket in [*buckets, 999_999, 0]:
        chances = {one.learn(950_000, bucket < 950_000, bucket) for one in (keys, packed, plain, again)}
        assert len(chances) == 1


def test_restored_keys_are_kept_without_a_look_at_them_until_one_is_asked_for() -> None:
    keys, restored = KeyBounds(), KeyBounds()
    for key in range(3 * SEALED):
        keys.learn(500_000, True, key)
    restored.restore(keys.to_packed())
    assert not restored._parts and restored.to_packed() == keys.to_packed()
    assert restored.learn(500_000, True, SEALED) == 0.0 and len(restored._parts) == 1, "nor then at most others"
    assert len(restored) == 3 * SEALED
    restored.restore([[0, 500_000, "abc"]])
    with pytest.raises(ValueError, match=r"padding|decode|size"):
        restored.learn(500_000, True, SEALED)
