"""What is known of a candidate goes into the record of its stop, and cannot keep the stop from being made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.control.release.decisions import DecisionLog
from gateway.control.stop import CandidateStopper
from gateway.shm.slots import Slots
from gateway.shm.switchboard import RELEASES, Switchboard


@pytest.fixture
def stopper(tmp_path: Path) -> Iterator[CandidateStopper]:
    board, log = Switchboard.create(tmp_path / "board", 1), DecisionLog(tmp_path)
    yield CandidateStopper(board, Slots(RELEASES, "releases"), log, list)
    log.close()


def test_record_of_a_stop_holds_what_is_known(stopper: CandidateStopper) -> None:
    stopper.known_of = lambda name, candidate: {"effects": [f"of {name} {candidate}"]}
    stop = stopper.stop("digits", 2, "anna", "complaints", {"from": "console"})
    assert stop.evidence == {"effects": ["of digits 2"], "from": "console"}


def test_candidate_is_stopped_before_what_is_known_is_read(tmp_path: Path) -> None:
    board, log = Switchboard.create(tmp_path / "board", 1), DecisionLog(tmp_path)
    slots = Slots(RELEASES, "releases")
    stopper = CandidateStopper(board, slots, log, list)
    stopper.known_of = lambda *stopped: {"was_stopped": board.stopped(slots.of(*stopped))}
    stop = stopper.stop("digits", 2, "anna", "complaints", {})
    log.close()
    assert stop.evidence == {"was_stopped": True}


def test_stop_is_made_even_if_what_is_known_cannot_be_told(
    stopper: CandidateStopper, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str, candidate: int) -> dict[str, Any]:
        raise ArithmeticError("a bug")

    stopper.known_of = broken
    stop = stopper.stop("digits", 2, "anna", "complaints", {"from": "console"})
    assert (stop.action, stop.evidence) == ("stop", {"from": "console"})
    assert "a bug" in caplog.text
