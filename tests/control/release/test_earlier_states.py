"""State files that earlier releases have written, in the middle of a step: `states/`, by commits 3944eb78 (every first
outcome of a sticky customer counted) and df9f9952 (only what thinning left of them).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.control.guards.mean_evidence import MeanEvidence
from gateway.control.guards.observation import FeedbackEvent
from gateway.control.release.actions import Restart
from gateway.control.release.persistence import dump, load, read_states
from tests.control.release.running import ERRORS, Running, release

STATES = Path(__file__).with_name("states")
RAMP = {"weights": [30, 60], "interval": "600s", "advance": "no-violation"}
WRONG = {"name": "accuracy", "metric": "wrong_feedback"}
LATE = {"name": "late", "metric": "reward", "range": [0, 1], "feedback_delay": "30s"}
LATER_NS = 2000 * 10**9  # after the epoch has begun
FILES = ["before_thinning.json", "thinned_only.json"]


def loaded(file: str, model: str) -> Running:
    """The release as it goes on from the file."""
    settings = release(ramp=RAMP, comparisons=[ERRORS, WRONG, LATE])
    return Running(settings, load(settings, read_states(STATES / file)[model], 5.0), 5.0)


def outcomes(numbers: range, **values: float) -> list[FeedbackEvent]:
    return [
        FeedbackEvent(0, LATER_NS, 300_000, number % 3 == 0, number % 3 * 300_000 + number, values, route="everyone")
        for number in numbers
    ]


def means(running: Running) -> dict[str, Any]:
    """What a record says of the comparison of truths."""
    (process,) = (one.process for one in running.controller.guards.comparisons if one.settings.name == "accuracy")
    assert isinstance(process, MeanEvidence)
    return process.record()


@pytest.mark.parametrize(
    ("file", "log_e", "known", "shares"),
    [(FILES[0], -1.0558, 168, (0.2564, 0.2564)), (FILES[1], -1.5662, 152, (0.3, 0.2724))],
)
def test_evidence_goes_on_where_feedback_comes_alike(
    file: str, log_e: float, known: int, shares: tuple[float, float]
) -> None:
    """`shares`: the candidate's of the outcomes, as far as they are known in each way of counting."""
    running = loaded(file, "equal")
    errors, accuracy, late = running.controller.assessment().results
    assert (errors.log_e, accuracy.log_e) == (pytest.approx(-1.2916, abs=1e-4), pytest.approx(log_e, abs=1e-4))
    assert (running.controller.state.restart, late.verdict) == (1, "no-data")
    running.tick()
    assert running.kinds() == [] and running.weights == {"everyone": 300_000}
    running.tick(feedback=outcomes(range(1), wrong=1.0))
    record = means(running)
    found = [one["since"][-1][0] for one in (record, record["thinned"] or record)]
    assert found == pytest.approx(shares, abs=5e-4)
    running.tick(feedback=outcomes(range(1, 300), wrong=1.0))
    assert running.controller.assessment().results[1].log_e != accuracy.log_e
    running.tick(2.0)
    (wrong,) = (one for one in running.controller.guards.effects() if one.outcome == "wrong" and one.route is None)
    assert (wrong.candidate_units, wrong.stable_units) == (155, known + 200), "of 300 customers who are new"


@pytest.mark.parametrize("file", FILES)
def test_evidence_starts_anew_and_it_is_said_where_feedback_comes_more_often_for_one_version(file: str) -> None:
    running = loaded(file, "unequal")
    errors, accuracy, _ = running.controller.assessment().results
    assert errors.log_e == pytest.approx(-1.2916, abs=1e-4), "failures are no feedback"
    assert (accuracy.log_e, accuracy.verdict, running.controller.state.restart) == (0.0, "no-data", 2)
    assert "wrong" not in {one.outcome for one in running.controller.guards.effects()}
    for _ in range(2):
        running.tick()
    (said,) = (action for action in running.actions if isinstance(action, Restart))
    assert said.reason.startswith(
        "the evidence on wrong_feedback starts anew after the upgrade: feedback comes more often"
    )
    assert said.evidence["metrics"] == ["wrong_feedback"]


def leaves(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values but objects, and to the first of each list."""
    inner = found.items() if isinstance(found, dict) else [*enumerate(found)][:1] if isinstance(found, list) else ()
    for key, value in inner:
        yield from leaves(value, (*path, key))
    if not isinstance(found, dict):
        yield path


@pytest.mark.parametrize("damage", [None, "x", -1, 1 << 70, 1e308, [], {}, [[1]]], ids=str)
def test_damage_is_found_when_a_state_is_read_if_ever(damage: Any) -> None:
    """Not when it is shown, nor when it is written, which would keep the gateway from starting or ending."""
    state = read_states(STATES / FILES[1])["equal"]
    read = 0
    for *within, last in leaves(state["guards"], ("guards",)):
        damaged = orjson.loads(orjson.dumps(state))
        place = damaged
        for key in within:
            place = place[key]
        place[last] = damage
        settings = release(ramp=RAMP, comparisons=[ERRORS, WRONG, LATE])
        try:
            controller = load(settings, damaged, 5.0)
        except Exception:  # as whoever reads a state expects
            continue
        read += 1
        controller.assessment()
        controller.guards.effects()
        assert orjson.loads(orjson.dumps(dump(controller, 5.0)))["versions"] == [1, 2]
    assert read, "some are no damage"


@pytest.mark.parametrize("model", ["equal", "unequal"])
@pytest.mark.parametrize("file", FILES)
def test_outcomes_that_wait_go_on_waiting(file: str, model: str) -> None:
    running = loaded(file, model)
    running.tick()
    running.tick(40.0)
    (late,) = (one for one in running.controller.assessment().results if one.name == "late")
    assert late.verdict == "inconclusive" and late.log_e != 0
