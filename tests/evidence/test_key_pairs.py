"""Pairs of sticky keys that change often: what is out of date is thrown away, never much of it at once."""

import random

import orjson
import pytest

from gateway.evidence.key_pairs import PARTS, SEALED, WORTH_PACKING, KeyPairs, _unpacked


def listed(keys: list[int] | str) -> list[int]:
    return _unpacked(keys).tolist() if isinstance(keys, str) else keys


def rows(pairs: KeyPairs) -> list[list[int]]:
    return [listed(keys) for *_, keys in pairs.to_packed()]


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


def test_one_change_packs_or_looks_through_a_thousand_keys_at_most() -> None:
    """Though nothing of what is looked through first is out of date."""
    pairs, _ = changed(40 * SEALED, 40 * SEALED)
    packed, removed = [], []
    for change in range(80 * SEALED):
        before = {id(row): row for row in pairs._packed}
        pairs.set(39 * SEALED + change % SEALED, (500_000, 2 + change // SEALED))
        now = {id(row): row for row in pairs._packed}
        packed.append(sum(len(listed(now[one][2])) for one in now.keys() - before.keys()))
        removed.append(sum(len(listed(before[one][2])) for one in before.keys() - now.keys()))
        assert not (packed[-1] and removed[-1])
    assert max(removed) == SEALED <= max(packed) <= 2 * SEALED
    assert sum(removed) >= 50 * SEALED, "all that was there before has been looked through"


def test_many_keys_of_one_pair_are_restored_in_small_rows() -> None:
    pairs = KeyPairs()
    pairs.restore([[0, 500_000, list(range(5 * SEALED + 1))]])
    assert pairs.get(5 * SEALED) == (0, 500_000)
    assert [len(row) for row in rows(pairs)] == [SEALED] * 5 + [1]


def test_pair_that_stays_is_no_change() -> None:
    pairs = KeyPairs()
    for change in range(4 * SEALED):
        pairs.set(change % (2 * SEALED), (1, 2))
    assert sum(map(len, rows(pairs))) == 2 * SEALED


def test_no_dictionary_is_large_and_no_key_is_lost_between_them() -> None:
    """Else one of 200,000 keys would take 5 ms to grow."""
    generator, pairs = random.Random(1), KeyPairs()
    keys = [generator.randrange(1_000_000) for _ in range(50 * SEALED)]
    for key in keys:
        pairs.set(key, (1, key % 3))
    restored = KeyPairs()
    restored.restore(pairs.to_packed())
    for one in (pairs, restored):
        assert all(one.get(key) == (1, key % 3) for key in keys) and len(one) == len(set(keys))
        assert max(map(len, one._parts.values())) < len(one) / 30
        assert one.get(1_000_000) is None and 1_000_000 not in one
    restored.clear()
    assert len(restored) == 0 and restored.get(keys[0]) is None


def test_parts_of_what_is_restored_are_opened_one_by_one_as_keys_change() -> None:
    """Before the number of keys is asked for; all at once would take 0.1 s."""
    pairs, _ = changed(2 * SEALED, 2 * SEALED)
    restored = KeyPairs()
    restored.restore(pairs.to_packed())
    for change in range(PARTS):
        restored.set(0, (9, change))
        assert len(restored._parts) == min(change + 2, PARTS)
    assert len(restored) == 2 * SEALED
    for key in range(2 * SEALED):
        restored.set(key, (8, 8))
    assert sum(map(len, rows(restored))) <= 4 * SEALED and restored.get(SEALED) == (8, 8)


def test_few_keys_of_a_pair_are_not_packed() -> None:
    """Packing a hundred pairs of a few keys takes as long as packing as many of a thousand."""
    pairs = KeyPairs()
    for key in range(SEALED):
        pairs.set(key, (1, key if key < SEALED // 2 else -1))
    packed = [keys for *_, keys in pairs.to_packed() if isinstance(keys, str)]
    assert [len(listed(keys)) for keys in packed] == [SEALED // 2]
    for change in range(4):
        for key in range(SEALED):
            pairs.set(key, (change + 2, 0))
    assert sum(map(len, rows(pairs))) <= 3 * SEALED, "what is out of date is thrown away though it is not packed"
    restored = KeyPairs()
    restored.restore(orjson.loads(orjson.dumps(pairs.to_packed())))
    assert {restored.get(key) for key in range(SEALED)} == {(5, 0)}
    restored.restore([[3, 4, list(range(WORTH_PACKING))]])
    assert restored.get(WORTH_PACKING - 1) == (3, 4) and isinstance(restored.to_packed()[0][2], str)


@pytest.mark.parametrize("damaged", ["", "bm8gemxpYg==", "a", None, [0.5, "x"]])
def test_damaged_rows_are_an_error_each_time_and_no_key_counts_as_new(damaged: object) -> None:
    pairs = KeyPairs()
    pairs.restore([[1, 2, [5]], [1, 3, damaged]])
    for _ in range(2):
        with pytest.raises(ValueError, match="sticky keys that have failed"):
            pairs.get(5)
    assert pairs.to_packed() == [[1, 2, [5]], [1, 3, damaged]]
