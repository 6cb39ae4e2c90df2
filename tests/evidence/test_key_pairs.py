"""Pairs of sticky keys that change often: what is out of date is thrown away, never much of it at once."""

import random

import orjson

from gateway.evidence.key_pairs import REPACKED, SEALED, KeyPairs, _unpacked


def rows(pairs: KeyPairs) -> list[list[int]]:
    return [_unpacked(keys).tolist() if isinstance(keys, str) else keys for _, _, keys in pairs.to_packed()]


def changed(keys: int, changes: int) -> tuple[KeyPairs, dict[int, tuple[int, int]]]:
    generator, pairs, expected = random.Random(0), KeyPairs(), {}
    for change in range(changes):
        key = change if change < keys else generator.randrange(keys // 2)  # the others stay as they are
        expected[key] = (500_000, expected.get(key, (0, 0))[1] + 1)
        pairs.set(key, expected[key])
    return pairs, expected


def test_pairs_that_change_often_come_back_as_they_are() -> None:
    pairs, expected = changed(10 * SEALED, 80 * SEALED)
    restored = KeyPairs()
    restored.restore(orjson.loads(orjson.dumps(pairs.to_packed())))
    assert len(restored) == len(expected)
    assert all(one.get(key) == pair for key, pair in expected.items() for one in (pairs, restored))


def test_what_is_packed_is_at_most_three_times_what_is_known_however_often_it_changes() -> None:
    pairs, expected = changed(10 * SEALED, 80 * SEALED)
    assert sum(map(len, rows(pairs))) <= 3 * len(expected)


def test_one_change_packs_a_few_thousand_keys_at_most() -> None:
    """Though nothing of what is looked through first is out of date."""
    pairs, _ = changed(40 * SEALED, 40 * SEALED)
    packed = []
    for change in range(80 * SEALED):
        before = pairs.to_packed() if change % SEALED == SEALED - 1 else []
        pairs.set(39 * SEALED + change % SEALED, (500_000, 2 + change // SEALED))
        if before:
            new = [keys for *_, keys in pairs.to_packed() if all(keys is not one for *_, one in before)]
            packed.append(sum(len(_unpacked(keys)) for keys in new))
    assert len(packed) == 80 and min(packed) == SEALED
    assert 2 * SEALED < max(packed) <= REPACKED + 2 * SEALED


def test_many_keys_of_one_pair_are_restored_in_small_rows() -> None:
    pairs = KeyPairs()
    pairs.restore([[0, 500_000, list(range(5 * SEALED + 1))]])
    assert [len(row) for row in rows(pairs)] == [SEALED] * 5 + [1]
    assert pairs.get(5 * SEALED) == (0, 500_000)


def test_pair_that_stays_is_no_change() -> None:
    pairs = KeyPairs()
    for change in range(4 * SEALED):
        pairs.set(change % (2 * SEALED), (1, 2))
    assert sum(map(len, rows(pairs))) == 2 * SEALED
