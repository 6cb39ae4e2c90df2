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
    stopper.known_of = lambda name: {"effects": [f"of {name}"]}
    stop = stopper.stop("digits", 2, "anna", "complaints", {"from": "console"})
    assert stop.evidence == {"effects": ["of digits"], "from": "console"}


def test_stop_is_made_even_if_what_is_known_cannot_be_told(
    stopper: CandidateStopper, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> dict[str, Any]:
        raise ArithmeticError("a bug")

    stopper.known_of = broken
    stop = stopper.stop("digits", 2, "anna", "complaints", {"from": "console"})
    assert (stop.action, stop.evidence) == ("stop", {"from": "console"})
    assert "a bug" in caplog.text
