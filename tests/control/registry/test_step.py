"""What the aliases of a registry ask for, in every case, and what is said of it."""

from typing import Any

import pytest

from gateway.control.registry.memory import ModelMemory
from gateway.control.registry.step import (
    Aliases,
    Here,
    Move,
    Step,
    challenger_step,
    champion_step,
    first_memory,
    followed,
    move_step,
    note_of,
)

ALONE = Here(stable=1, candidate=None, stops={})
RUNNING = Here(stable=1, candidate=2, stops={})
STOPPED = Here(stable=1, candidate=2, stops={2: 40})


def memory(**said: Any) -> ModelMemory:
    return ModelMemory(registered="digits", stable=1, **{"champion": 1, **said})


@pytest.mark.parametrize(
    ("champion", "here", "follow", "step"),
    [
        (1, RUNNING, True, Step.NOTHING),  # it has not moved
        (2, RUNNING, False, Step.PROMOTE),
        (2, RUNNING, True, Step.PROMOTE),
        (2, STOPPED, False, Step.DEALT_WITH),
        (2, STOPPED, True, Step.DEALT_WITH),
        (3, RUNNING, False, Step.DEALT_WITH),
        (3, RUNNING, True, Step.BRING),
        (3, ALONE, True, Step.BRING),
        (3, Here(stable=1, candidate=None, stops={3: 1}), True, Step.DEALT_WITH),
        (None, RUNNING, True, Step.DEALT_WITH),
    ],
)
def test_a_champion_that_has_moved(champion: int | None, here: Here, follow: bool, step: Step) -> None:
    assert champion_step(memory(), Aliases(champion, None), here, follow=follow) is step


def test_a_champion_that_is_stable_already_is_dealt_with() -> None:
    assert champion_step(memory(champion=7), Aliases(1, None), RUNNING, follow=True) is Step.DEALT_WITH


@pytest.mark.parametrize(
    ("challenger", "here", "own", "asked_at", "step"),
    [
        (None, RUNNING, True, 50, Step.NOTHING),
        (1, RUNNING, True, 50, Step.DEALT_WITH),
        (2, RUNNING, True, 50, Step.DEALT_WITH),
        (3, ALONE, False, 50, Step.BRING),
        (3, RUNNING, True, 50, Step.BRING),
        (3, RUNNING, False, 50, Step.WAIT),
        (3, STOPPED, False, 50, Step.BRING),  # it was stopped before the alias was moved
        (3, STOPPED, False, 39, Step.TOO_LATE),
        (3, STOPPED, True, 39, Step.TOO_LATE),
        (3, Here(stable=1, candidate=None, stops={3: 40}), True, 50, Step.DEALT_WITH),
    ],
)
def test_a_challenger_that_has_moved(challenger: int | None, here: Here, own: bool, asked_at: int, step: Step) -> None:
    known = memory(asked_at=asked_at)
    assert challenger_step(known, Aliases(1, challenger), here, own_candidate=own) is step


def test_an_alias_that_was_taken_away_is_dealt_with_and_then_obeyed_again() -> None:
    known = memory(challenger=3)
    assert challenger_step(known, Aliases(1, 3), ALONE, own_candidate=False) is Step.NOTHING  # a person has removed it
    assert challenger_step(known, Aliases(1, None), ALONE, own_candidate=False) is Step.DEALT_WITH
    known.challenger = None
    assert challenger_step(known, Aliases(1, 3), ALONE, own_candidate=False) is Step.BRING


@pytest.mark.parametrize(
    ("step", "alias", "done", "in_force", "expected"),
    [
        (Step.NOTHING, 2, 2, 2, Step.NOTHING),
        (Step.BRING, 3, None, None, Step.NOTHING),  # the other host may refuse it yet
        (Step.BRING, 3, 2, 3, Step.BRING),
        (Step.BRING, 3, 3, 3, Step.BRING),
        (Step.BRING, 3, 3, 2, Step.DEALT_WITH),  # it was refused there, or a person has removed it
        (Step.PROMOTE, 2, 1, None, Step.NOTHING),  # the edit comes from there, or is this host's if that one ends
        (Step.PROMOTE, 2, 1, 2, Step.NOTHING),
        (Step.PROMOTE, 2, 2, 1, Step.DEALT_WITH),
        (Step.DEALT_WITH, None, None, None, Step.DEALT_WITH),
        (Step.DEALT_WITH, 2, 1, 2, Step.NOTHING),
        (Step.TOO_LATE, 3, None, None, Step.NOTHING),
        (Step.TOO_LATE, 3, 3, None, Step.TOO_LATE),
        (Step.TOO_LATE, 3, 3, 3, Step.TOO_LATE),
        (Step.WAIT, 3, None, None, Step.WAIT),
    ],
)
def test_what_a_host_does_while_another_one_follows_the_registry(
    step: Step, alias: int | None, done: int | None, in_force: int | None, expected: Step
) -> None:
    assert followed(step, alias, done=done, in_force=in_force) is expected


@pytest.mark.parametrize(
    ("move_to", "move_from", "champion", "step"),
    [
        (None, 1, 1, Move.NOTHING),
        (2, 1, 1, Move.TELL),
        (2, None, None, Move.TELL),
        (2, 1, 2, Move.TELL),  # what is left is to take the challenger away
        (2, 1, 3, Move.GIVE_UP),  # somebody has moved it elsewhere meanwhile
        (2, 1, None, Move.GIVE_UP),  # or has taken it away
        (5, 1, 1, Move.GIVE_UP),  # stable is another by now
    ],
)
def test_what_becomes_of_a_promotion_that_the_registry_is_to_be_told_of(
    move_to: int | None, move_from: int | None, champion: int | None, step: Move
) -> None:
    here = Here(stable=2, candidate=None, stops={})
    assert move_step(memory(move_to=move_to, move_from=move_from), Aliases(champion, None), here) is step


@pytest.mark.parametrize("follow", [False, True])
def test_a_model_seen_first_obeys_its_challenger_and_its_champion_only_if_that_is_followed(follow: bool) -> None:
    aliases = Aliases(champion=2, challenger=3)
    first = first_memory("digits", aliases, RUNNING, follow=follow)
    assert challenger_step(first, aliases, RUNNING, own_candidate=True) is Step.BRING
    assert champion_step(first, aliases, RUNNING, follow=follow) is (Step.PROMOTE if follow else Step.NOTHING)


@pytest.mark.parametrize(
    ("known", "aliases", "here", "waiting", "said", "problem"),
    [
        (memory(), Aliases(1, 2), RUNNING, "", "", False),
        (memory(refused=3, why="version 3 is bad"), Aliases(1, 3), ALONE, "", "version 3 is bad", True),
        (memory(refused=3, why="version 3 is bad"), Aliases(1, 2), RUNNING, "", "", False),
        (memory(), Aliases(1, 3), ALONE, "version 3 is being fetched", "version 3 is being fetched", False),
        (memory(), Aliases(3, None), ALONE, "", "champion is version 3, which is not the candidate here", True),
        (memory(), Aliases(2, None), STOPPED, "", "champion is version 2, which is stopped here", True),
        (memory(move_to=1), Aliases(3, None), ALONE, "", "champion is to be moved to version 1", False),
        (memory(challenger=3), Aliases(1, 3), ALONE, "", "which is not the candidate here any more", False),
        (memory(), Aliases(1, 3), Here(1, None, {3: 1}), "", "challenger is version 3, which was stopped here", False),
        (memory(brought=2), Aliases(1, None), RUNNING, "", "candidate 2 stays until it is stopped", False),
        (memory(), Aliases(1, None), RUNNING, "", "", False),
    ],
)
def test_what_is_said_of_a_difference(
    known: ModelMemory, aliases: Aliases, here: Here, waiting: str, said: str, problem: bool
) -> None:
    note, found = note_of(known, aliases, here, waiting)
    assert (said in note, bool(said) == bool(note), found) == (True, True, problem)
