"""A proposal of a version: what is asked, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.control.config.editor import EditResult
from gateway.control.config.yaml_candidate import Weight
from gateway.errors import Conflict


@dataclass(frozen=True, slots=True)
class Basis:
    """What a proposal is decided by: the versions in force, and the stops of the model's candidates so far."""

    stable: int
    candidate: int | None
    stops: int


def still_wanted() -> str:
    """A proposal that is not given up."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What is asked. `version`: None for the next free number; `weight`: see `name_candidate`; `replace`: also if
    another candidate is under way. `as_stable`: the version becomes stable at once, and no candidate is touched.
    `basis`: if it is another by now, the proposal is refused; None: any. `unwanted`: why it is given up, empty as long
    as it is not; called until it is in force, from any thread.
    """

    model: str
    version: int | None
    weight: Weight | None
    replace: bool
    by: str
    reason: str
    evidence: dict[str, Any]
    as_stable: bool = False
    basis: Basis | None = None
    unwanted: Callable[[], str] = still_wanted


class VersionRefused(Conflict):
    """The version itself is refused: to propose it again leads to the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedProposal:
    """The version that is the candidate now. `replaced`: the candidate before, or None. `files`: how many it has."""

    version: int
    stable: int
    replaced: int | None
    files: int
    total_bytes: int
    edited: EditResult
