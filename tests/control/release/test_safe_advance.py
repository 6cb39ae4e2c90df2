"""`advance: safe` with sticky customers, whose failures repeat: when a ramp goes on, and the record of why."""

import json

import pytest

from gateway.control.guards.evidence import log_safety
from gateway.control.release.actions import Advance
from gateway.control.release.audit import LN_10, recompute
from gateway.control.release.forecast import WITHOUT_SAFETY, progress
from gateway.control.release.persistence import dump, load
from gateway.shm.failure_events import FailureEvent, FailureKind
from tests.control.release.running import ERRORS, RAMP, Running, release

SAFE = {**RAMP, "weights": [20, 50, 100], "advance": "safe"}


def failures(
    weight_ppm: int, *, at_s: float = 0, candidate: range = range(0), stable: range = range(0)
) -> list[FailureEvent]:
    """One of each customer: those of the candidate from bucket 0 on, those of stable from 900,000 on."""
    return [
        FailureEvent(round(at_s * 1e9), 0, 1, weight_ppm, buckets is candidate, FailureKind.FAILURE, first + number)
        for buckets, first in ((candidate, 0), (stable, 900_000))
        for number in buckets
    ]


def ramping() -> Running:
    running = Running(release(ramp=SAFE, comparisons=[ERRORS]))
    running.calmly(61)
    return running


def restarted(running: Running) -> Running:
    memory = json.loads(json.dumps(dump(running.controller, running.now_s)))
    again = Running(running.settings, load(running.settings, memory, running.now_s), running.now_s)
    again.answer(2)
    return again


def test_customers_show_a_ramp_safe_and_count_again_at_the_next_step() -> None:
    running = ramping()
    running.answer(2)
    running.tick(failures=failures(200_000, candidate=range(50), stable=range(400)))
    assert running.weights == {"everyone": 500_000}
    running.calmly(61)
    assert running.kinds() == ["Advance"]  # what was shown at one step is not shown at the next
    running.answer(2)
    running.tick(failures=failures(500_000, candidate=range(100), stable=range(250)))
    assert running.kinds() == ["Advance", "Advance"]


def test_customers_of_a_worse_candidate_who_have_all_failed_do_not_show_it_safe() -> None:
    """The first failures alone are what a harmless candidate's are: 100 and 400 at 20%."""
    running = ramping()
    running.answer(2)
    often = [event for at_s in (0, 10, 20) for event in failures(200_000, at_s=at_s, candidate=range(100))]
    running.tick(failures=[*often, *failures(200_000, stable=range(400))])
    assert running.kinds() == []
    assert running.controller.assessment().failures.verdict == "inconclusive"


def test_customers_count_as_often_whenever_their_failures_come_and_are_told() -> None:
    """Late, in another order, by clocks that differ or were set back."""
    found = set()
    for order in (1, -1):
        running = ramping()
        running.controller.state.step_started_s = running.now_s  # the interval begins again
        events = [
            *failures(200_000, at_s=1e6 * order, candidate=range(30)),
            *failures(200_000, candidate=range(20, 50), stable=range(400)),
        ]
        running.tick(failures=events[::order])
        found.add(running.controller.assessment().failures.log_safe)
    assert len(found) == 1 and found.pop() > 0


def test_evidence_and_its_height_survive_a_restart() -> None:
    running = ramping()
    running.controller.state.step_started_s = running.now_s  # the interval begins again
    running.tick(failures=failures(200_000, candidate=range(30), stable=range(400)))
    running.tick(failures=failures(200_000, candidate=range(30, 70)))
    again = restarted(running)
    before, after = (one.controller.assessment().failures for one in (running, again))
    assert (after.verdict, after.log_safe) == (before.verdict, before.log_safe) == ("safe", before.log_safe)
    for one in (running, again):
        one.tick(failures=failures(200_000, candidate=range(70, 80), stable=range(1200)))
    before, after = (one.controller.assessment().failures for one in (running, again))
    assert after.log_safe == before.log_safe > 10


def test_advance_can_be_recomputed_from_its_record() -> None:
    running = ramping()
    running.answer(2)
    running.tick(failures=failures(200_000, candidate=range(20), stable=range(400)) * 2)
    (advance,) = (action for action in running.actions if isinstance(action, Advance))
    record = json.loads(json.dumps(advance.evidence))
    (errors,) = record["guards"]
    assert errors["safest"] == {
        "failures": [],
        "keys": [[0.2, False, 2, 400], [0.2, True, 2, 20]],
        "sampled": [1, 0.25],
    }
    assert recompute(record).safe["errors"] == pytest.approx(errors["log10_safe"])
    assert errors["log10_safe"] >= 2


def test_records_of_earlier_gateways_are_recomputed_as_they_counted() -> None:
    failed = [[0.2, 20, 400]]
    guard = {"name": "errors", "share": 1, "action": "stop", "ratios": [1.5], "failures": failed}
    safest = {"failures": [], "keys": [[0.2, 0, 400], [0.2, 2, 20]]}  # 0: stable's
    record = {"guards": [guard, {**guard, "name": "later", "safest": safest}], "log10_e": {"stop": 0, "pause": 0}}
    keys = {(0.2, False, 1): 400, (0.2, True, 2): 20}
    expected = {
        "errors": log_safety({(0.2, True): 20, (0.2, False): 400}) / LN_10,
        "later": log_safety({}, keys, (1.0,)) / LN_10,
    }
    assert recompute(record).safe == pytest.approx(expected)


def test_status_says_when_too_few_customers_are_left() -> None:
    running = ramping()
    running.tick(failures=failures(200_000, candidate=range(10), stable=range(80)))
    seen = "evidence of safety: 90 failures so far, about 390 show it if both fail as often"
    expected = f"{seen}; a sticky customer counts once ({WITHOUT_SAFETY})"
    assert progress(running.controller, running.now_s, 0.01).blocked_on == expected
    running.tick(failures=failures(200_000, at_s=10, candidate=range(25)))
    said = "safety can hardly be shown any more: most sticky customers that fail have failed already"
    assert running.controller.assessment().failures.notes == (said,)
    now = progress(running.controller, running.now_s, 0.01).blocked_on
    assert now.startswith("evidence of safety: 105 failures so far, about ") and now.endswith(
        f" ({WITHOUT_SAFETY}); {said}"
    )
