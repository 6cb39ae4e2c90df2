"""The store's scripts: what they merge, what they refuse, and that copies of a message change nothing."""

import pytest

from gateway.control.fleet.scripts import exchange, merge, resume, stop_current
from gateway.control.fleet.store_state import Exchange, Identity, StoreState, Word

NAME = "digits/2/ab"
LIFE = Identity("run", "key")
STORE = StoreState("run", "key", 1, 1000, 9, "run", {NAME: Word(2, 2)})
ASKED = Exchange("a", "host a", 5, 0, LIFE, 9, False, 1, 1000, "new")


@pytest.mark.parametrize(
    ("word", "claimed", "merged"),
    [
        (Word(1, 0), Word(1, 0), Word(1, 0)),
        (Word(1, 0), Word(1, 1), Word(1, 1)),
        (Word(2, 1), Word(1, 1), Word(2, 1)),  # a stop of an epoch that has ended
        (Word(1, 0), Word(3, 2), Word(3, 2)),  # an open epoch, of which a store without stops learns
        (Word(1, 1), Word(3, 2), Word(3, 3)),  # stopped here: a higher epoch does not open it
        (Word(2, 2), Word(2, 1), Word(2, 2)),
        (Word(1, 0), Word(2, 5), Word(2, 5)),
    ],
)
def test_merge(word: Word, claimed: Word, merged: Word) -> None:
    assert merge(word, claimed) == merged
    assert merge(merged, claimed) == merged


def test_stop_of_the_current_epoch() -> None:
    assert stop_current(Word(4, 1)) == Word(4, 4)
    assert stop_current(Word(4, 6)) == Word(4, 6)


def test_exchange_records_the_member_once() -> None:
    store, reply = exchange(STORE, ASKED)
    assert reply.members["a"].beat == 5 and reply.members["a"].applied == 9
    assert exchange(store, ASKED._replace(beat=4, applied=0))[0] == store  # a late copy
    assert store.revision == STORE.revision  # a beat alone changes nothing that is shared


@pytest.mark.parametrize("known", [None, Identity("run", "old"), Identity("old", "key")])
def test_applied_of_another_life_does_not_count(known: Identity | None) -> None:
    assert exchange(STORE, ASKED._replace(known=known))[1].members["a"].applied == 0


def test_applied_of_a_revision_to_come_does_not_count() -> None:
    assert exchange(STORE, ASKED._replace(applied=10))[1].members["a"].applied == 0


def test_a_record_is_dropped_only_with_the_beat_that_stood_still() -> None:
    store, _ = exchange(STORE, ASKED)
    other = ASKED._replace(incarnation="b")
    assert "a" in exchange(store, other._replace(drops=(("a", 4),)))[0].members
    assert "a" not in exchange(store, other._replace(drops=(("a", 5),)))[0].members


def test_a_lost_record_of_a_holding_member_is_written_again() -> None:
    member = exchange(STORE, ASKED._replace(holds={"c": "host c"}))[0].members["c"]
    assert member.hold and member.applied == 0 and member.name == "host c"


@pytest.mark.parametrize(("field", "value"), [("lease_ns", 3000), ("protocol", 2)])
def test_other_constants_are_refused(field: str, value: int) -> None:
    store, reply = exchange(STORE, ASKED._replace(**{field: value}))
    assert reply.refused and store == STORE


def test_resume_is_compare_and_set() -> None:
    store, refused = resume(STORE, LIFE, NAME, 2)
    assert refused == "" and store.words[NAME] == Word(3, 2) and store.revision == 10
    assert "epoch 3, not 2" in resume(store, LIFE, NAME, 2)[1]
    assert "not stopped" in resume(store, LIFE, NAME, 3)[1]


def test_resume_waits_until_a_new_store_has_settled() -> None:
    assert "new" in resume(STORE._replace(settled="before"), LIFE, NAME, 2)[1]
    assert "new" in resume(STORE, Identity("before", "key"), NAME, 2)[1]
