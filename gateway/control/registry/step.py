"""What is to be done about a model, given what the registry says, what is in force here, and what was done before.

All decisions are here, free of effects. `champion` is the stable version, `challenger` the candidate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.control.registry.memory import ModelMemory

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"


@dataclass(frozen=True, slots=True)
class Aliases:
    """The versions by alias; None without one."""

    champion: int | None
    challenger: int | None


def aliases_of(found: Mapping[str, int]) -> Aliases:
    """Those that are followed."""
    return Aliases(found.get(CHAMPION), found.get(CHALLENGER))


@dataclass(frozen=True, slots=True)
class Here:
    """The release in force. `stops`: the sequence of the decision, by stopped version of the model."""

    stable: int
    candidate: int | None
    stops: Mapping[int, int]


class Step(Enum):
    """What an alias asks for."""

    NOTHING = auto()
    DEALT_WITH = auto()  # it has moved, which asks for nothing more than to be remembered
    PROMOTE = auto()  # the candidate is to become stable
    BRING = auto()  # the version is to be fetched: the challenger's as candidate, the champion's as stable
    WAIT = auto()  # for the end of a candidate that did not come from the registry
    TOO_LATE = auto()  # the candidate was stopped after the alias was moved: a stop is meant for what waits, too


class Move(Enum):
    """What becomes of a change of the stable version here, which the registry is to be told of."""

    NOTHING = auto()
    TELL = auto()
    GIVE_UP = auto()  # the alias was moved elsewhere by somebody meanwhile, or the change was undone here


def first_memory(registered: str, aliases: Aliases, here: Here, *, follow: bool) -> ModelMemory:
    """What to remember of a model that is first seen: its challenger is obeyed, its champion only with `follow`."""
    champion = here.stable if follow else aliases.champion
    return ModelMemory(registered=registered, champion=champion, challenger=None, stable=here.stable)


def champion_step(memory: ModelMemory, aliases: Aliases, here: Here, *, follow: bool) -> Step:
    """What the champion asks for, if it has moved. Never that a stopped version answers."""
    champion = aliases.champion
    if champion == memory.champion:
        return Step.NOTHING
    if champion is None or champion == here.stable or champion in here.stops:
        return Step.DEALT_WITH
    if champion == here.candidate:
        return Step.PROMOTE
    return Step.BRING if follow else Step.DEALT_WITH


def challenger_step(memory: ModelMemory, aliases: Aliases, here: Here, *, own_candidate: bool) -> Step:
    """What the challenger asks for, if it has moved. `own_candidate`: the candidate came from the registry, so that it
    may be replaced.
    """
    challenger = aliases.challenger
    if challenger == memory.challenger:
        return Step.NOTHING
    if challenger in (None, here.stable, here.candidate) or challenger in here.stops:
        return Step.DEALT_WITH
    if here.candidate is None:
        return Step.BRING
    if here.candidate in here.stops:
        return Step.TOO_LATE if here.stops[here.candidate] > memory.asked_at else Step.BRING
    return Step.BRING if own_candidate else Step.WAIT


def followed(step: Step, alias: int | None, *, done: int | None, in_force: int | None) -> Step:
    """What a host of a fleet does of such a step while another one follows the registry for all. It brings what is in
    force there, counts as dealt with what is so there, and leaves the rest to that host, whose promotions reach it as
    edits. `done`: the version that the alias named when that host dealt with it last; `in_force`: as candidate there,
    or as stable if the alias is the champion.
    """
    if step is Step.BRING and in_force == alias:
        return Step.BRING
    if step in (Step.NOTHING, Step.WAIT):
        return step
    if done != alias:
        return Step.NOTHING  # if that host ends now, the next one has it still to do
    return step if step is Step.TOO_LATE else Step.DEALT_WITH


def move_step(memory: ModelMemory, aliases: Aliases, here: Here) -> Move:
    """Whether the registry is to be told of the stable version that came into force here."""
    if memory.move_to is None:
        return Move.NOTHING
    if memory.move_to != here.stable or aliases.champion not in (memory.move_to, memory.move_from):
        return Move.GIVE_UP
    return Move.TELL


def note_of(memory: ModelMemory | None, aliases: Aliases, here: Here, waiting: str) -> tuple[str, bool]:
    """What differs between the registry and the release here, and why; and whether it will not go away by itself.

    `waiting`: why a step that an alias asks for has not been made yet.
    """
    notes, problem = [], False
    champion, challenger = aliases.champion, aliases.challenger
    if memory is not None and memory.refused is not None and memory.refused in (champion, challenger):
        notes.append(memory.why)
        problem = True
    elif waiting:
        notes.append(waiting)
    if memory is not None and memory.move_to == here.stable:
        notes.append(f"champion is to be moved to version {here.stable}")
    elif champion not in (None, here.stable) and not notes:
        why = "is stopped here" if champion in here.stops else "is not the candidate here"
        notes.append(f"champion is version {champion}, which {why}; version {here.stable} stays stable")
        problem = True
    if challenger is not None and challenger not in (here.stable, here.candidate) and not notes:
        if challenger in here.stops:
            notes.append(f"challenger is version {challenger}, which was stopped here")
        elif memory is not None and memory.challenger == challenger:
            notes.append(f"challenger is version {challenger}, which is not the candidate here any more")
    if challenger is None and here.candidate is not None and memory is not None and memory.brought == here.candidate:
        notes.append(f"challenger was taken away; candidate {here.candidate} stays until it is stopped or promoted")
    return "; ".join(notes), problem
