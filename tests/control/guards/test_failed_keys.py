"""Failed keys: what each of them counts as, and that they are kept."""

import json
import random

from gateway.control.guards.evidence import MOST_TOLD
from gateway.control.guards.failed_keys import FailedKeys
from gateway.routing.buckets import BUCKETS


def failed(*failures: tuple[int, bool, int], most: int = 100) -> FailedKeys:
    keys = FailedKeys(most)
    for failure in failures:
        keys.add(*failure)
    return keys


def test_all_failures_of_a_key_are_counted() -> None:
    keys = failed(*[(100_000, True, 5)] * 3, (100_000, True, 6), *[(100_000, False, 900_000)] * 3)
    assert keys.counts == {(0.1, True, 3): 1, (0.1, True, 1): 1, (0.1, False, 3): 1}


def test_key_that_both_versions_have_failed_is_the_candidates() -> None:
    stable_first = failed((100_000, False, 150_000), (200_000, True, 150_000), (100_000, False, 150_000))
    candidate_first = failed((200_000, True, 150_000), (100_000, False, 150_000))
    assert (stable_first.counts, candidate_first.counts) == ({(0.1, True, 2): 1}, {(0.2, True, 1): 1})


def test_key_counts_by_its_lowest_weight() -> None:
    for candidate, key in ((True, 5), (False, 900_000)):
        for weights in ((100_000, 200_000), (200_000, 100_000)):
            assert failed(*((weight, candidate, key) for weight in weights)).counts == {(0.1, candidate, 2): 1}


def test_failures_beyond_the_most_that_are_told_add_nothing() -> None:
    assert failed(*[(100_000, True, 5)] * 2 * MOST_TOLD).counts == {(0.1, True, MOST_TOLD): 1}


def test_keys_beyond_the_most_are_no_evidence_and_those_known_go_on() -> None:
    keys = FailedKeys(2)
    failures = [(100_000, True, 5), (100_000, False, 900_000), (100_000, True, 6), (100_000, True, 5)]
    assert [keys.add(*failure) for failure in failures] == [True, True, False, False], "whether it is a key's first"
    assert keys.counts == {(0.1, True, 2): 1, (0.1, False, 1): 1}


def test_keys_are_restored_from_json_and_go_on() -> None:
    generator = random.Random(0)
    draws = []
    for _ in range(4000):
        weight, key = generator.choice((50_000, 500_000)), generator.choice((generator.randrange(BUCKETS), 7))
        draws.append((weight, key < weight, key))
    keys = failed(*draws[:2500], most=5000)
    restored = FailedKeys()
    restored.restore(json.loads(json.dumps(keys.to_json())))
    assert restored.counts == keys.counts
    assert restored.to_json()["count"] == keys.to_json()["count"]
    for draw in draws[2500:] + draws[:2500]:
        restored.add(*draw)
        keys.add(*draw)
    assert restored.counts == keys.counts
    restored.clear()
    assert restored.counts == {} and restored.to_json() == FailedKeys().to_json()
    restored.add(*draws[0])
    assert sum(restored.counts.values()) == 1
