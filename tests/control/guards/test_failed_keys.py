"""Failed keys: what each of them counts as, and that they are kept."""

import json
import random

from gateway.control.guards.evidence import MOST_TOLD
from gateway.control.guards.failed_keys import FailedKeys
from gateway.routing.buckets import BUCKETS

NS = 10**9


def failed(*failures: tuple[int, bool, int], most: int = 100) -> FailedKeys:
    keys = FailedKeys(most)
    for failure in failures:
        keys.add(*failure)
    return keys


def test_all_failures_of_the_candidates_keys_count_and_the_first_of_stables() -> None:
    keys = failed(*[(100_000, True, 5)] * 3, (100_000, True, 6), *[(100_000, False, 900_000)] * 3)
    assert keys.counts == {(0.1, 3): 1, (0.1, 1): 1, (0.1, 0): 1}


def test_key_counts_for_the_version_that_failed_first() -> None:
    rises = failed((100_000, False, 150_000), (200_000, True, 150_000))
    falls = failed((200_000, True, 150_000), (100_000, False, 150_000))
    assert (rises.counts, falls.counts) == ({(0.1, 0): 1}, {(0.2, 1): 1})


def test_key_of_the_candidate_counts_by_its_lowest_weight() -> None:
    assert failed((100_000, True, 5), (200_000, True, 5)).counts == {(0.1, 2): 1}
    assert failed((200_000, True, 5), (100_000, True, 5)).counts == {(0.1, 2): 1}


def test_failures_beyond_the_most_that_are_told_add_nothing() -> None:
    assert failed(*[(100_000, True, 5)] * 50).counts == {(0.1, MOST_TOLD): 1}


def test_keys_beyond_the_most_are_no_evidence_and_those_known_go_on() -> None:
    keys = failed((100_000, True, 5), (100_000, False, 900_000), (100_000, True, 6), (100_000, True, 5), most=2)
    assert keys.counts == {(0.1, 2): 1, (0.1, 0): 1}


def test_failures_within_four_seconds_of_the_first_of_them_are_one() -> None:
    keys = FailedKeys()
    for at_s in (100, 103, 97, 103.9, 104, 107.9, 109):
        keys.add(100_000, True, 5, round(at_s * NS))
        keys.pass_time(round(at_s * NS))
    assert keys.counts == {(0.1, 3): 1}


def test_key_of_stable_counts_after_the_time_of_three_bursts() -> None:
    keys, restored = FailedKeys(), FailedKeys()
    keys.add(100_000, False, 900_000, 100 * NS)
    keys.add(200_000, True, 900_000, 101 * NS)  # it has failed already
    restored.restore(json.loads(json.dumps(keys.to_json())))
    for one in (keys, restored):
        assert not one.pass_time(111 * NS) and not one.counts
        assert one.pass_time(112 * NS) and one.counts == {(0.1, 0): 1}
        assert not one.pass_time(113 * NS)


def test_burst_goes_on_after_a_restore() -> None:
    keys, restored = FailedKeys(), FailedKeys()
    keys.add(100_000, True, 5, 100 * NS)
    restored.restore(json.loads(json.dumps(keys.to_json())))
    restored.add(100_000, True, 5, 102 * NS)
    assert restored.counts == {(0.1, 1): 1}


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
