"""The stored state of a controller: across restarts of the gateway and edits of the routing file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.control.release.persistence import dump, forget_states, load, read_states
from gateway.control.release.stages import Event, ReleaseState, Stage
from gateway.shm.failure_events import FailureEvent, FailureKind, route_id
from tests.control.release.running import ERRORS, EVERYONE, RAMP, Running, counts, release

DRIFT = {"name": "drift", "metric": "predicted_class"}
LIMIT = {"name": "hard", "metric": "candidate.error_rate", "above": "5%", "window": "10s", "action": "pause"}


def restarted(running: Running, settings: Any = None, now_s: float = 5.0) -> Running:
    """The same state file in another process: with another clock, another switchboard and other counters."""
    memory = json.loads(json.dumps(dump(running.controller, running.now_s)))
    settings = settings or running.settings
    return Running(settings, load(settings, memory, now_s), now_s)


def test_ramp_continues_at_its_step_after_a_restart() -> None:
    running = Running(release())
    running.calmly(61 + 40)
    again = restarted(running)
    again.tick()
    assert again.weights == {"everyone": 100_000}
    again.calmly(17)
    assert again.weights == {"everyone": 100_000}
    again.calmly(4)
    assert again.weights == {"everyone": 500_000}  # 40 s of the interval had passed before


def test_ramp_that_never_ticked_begins_at_the_first_step() -> None:
    again = restarted(Running(release()))
    again.tick()
    assert (again.stage, again.weights) == ("ramping", {"everyone": 10_000})


def test_evidence_and_key_history_survive_a_restart() -> None:
    running = Running(release(comparisons=[ERRORS, DRIFT]))
    seen = np.zeros((2, 1, 2), np.int64)
    event = FailureEvent(0, 0, 1, 10_000, True, FailureKind.FAILURE, 77)
    for _ in range(5):
        seen += np.array([[[10, 20]], [[90, 90]]])
        classes = counts(seen[0].tolist(), seen[1].tolist())
        running.tick(failures=[*running.failed(1, 4), event], classes=classes)
    again = restarted(running)
    before, after = running.controller.assessment(), again.controller.assessment()
    assert after.log_e == {action: pytest.approx(log_e) for action, log_e in before.log_e.items()}
    again.tick(failures=[event])
    assert again.controller.assessment().failures.log_e == pytest.approx(before.failures.log_e)


def test_state_of_an_earlier_gateway_keeps_its_failures_and_starts_its_truths_anew() -> None:
    """Its wrong_feedback counted which version the wrong ones came from, and its settings had no other keys."""
    settings = release(comparisons=[ERRORS, {"name": "accuracy", "metric": "wrong_feedback"}])
    running = Running(settings)
    running.tick(failures=running.failed(2, 4))
    memory = json.loads(json.dumps(dump(running.controller, running.now_s)))
    memory["guards"]["wrong_feedback"] = {"counts": [[0.01, True, 50]], "known": [[0, 10_000, [7]]]}
    del memory["guards"]["outcomes"], memory["guards"]["effects"]
    assert memory["comparisons"][2] == {
        "name": "accuracy", "metric": "wrong_feedback", "threshold": None, "action": "stop"
    }  # fmt: skip
    again = Running(settings, load(settings, memory, 5.0), 5.0)
    errors, accuracy = again.controller.assessment().results
    assert errors == running.controller.assessment().results[0] and errors.log_e != 0
    assert accuracy.verdict == "no-data"
    assert again.controller.state.restart == running.controller.state.restart + 1, (
        "alpha has been spent on what is dropped"
    )


def test_means_and_effects_survive_a_restart() -> None:
    running = Running(release(comparisons=[{"name": "accuracy", "metric": "wrong_feedback"}]))
    running.tick()
    for _ in range(3):
        running.tick(feedback=running.judged(2, 4, right=(8, 90)))
    effects = running.controller.guards.effects()
    again = restarted(running)
    assert again.controller.assessment() == running.controller.assessment()
    assert again.controller.guards.effects() == effects and effects[0].candidate_units == 30
    more = running.judged(0, 0, right=(5, 50))
    for one in (running, again):
        one.tick(feedback=more)
    assert again.controller.assessment() == running.controller.assessment()


def test_evidence_of_a_metric_with_a_range_survives_a_restart() -> None:
    """A range is a pair in the settings, and a list in the file."""
    running = Running(release(comparisons=[ERRORS, {"name": "r", "metric": "reward", "range": [0, 1]}]))
    running.tick(failures=running.failed(2, 4), feedback=running.judged(2, 4, right=(8, 90), outcome="reward"))
    again = restarted(running)
    assert again.controller.assessment() == running.controller.assessment()
    assert again.controller.assessment().failures.log_e != 0


@pytest.mark.parametrize("stopped", [True, False])
def test_stop_is_taken_from_the_switchboard_and_not_from_the_state(stopped: bool) -> None:
    running = Running(release())
    running.calmly(70)
    running.stop()
    running.tick()
    again = restarted(running)
    again.stopped = stopped
    again.tick()
    assert again.weights == {"everyone": 0 if stopped else 10_000}
    assert again.stage == ("stopped" if stopped else "ramping")


def test_candidate_stopped_during_the_restart_is_stopped() -> None:
    running = Running(release())
    running.calmly(70)
    again = restarted(running)
    again.stopped = True
    again.tick()
    assert (again.stage, again.weights) == ("stopped", {"everyone": 0})


@pytest.mark.parametrize(
    ("weights", "weight_ppm"),
    [([1, 10, 50, 100], 100_000), ([1, 5, 20], 50_000), ([1, 10, 11, 12], 100_000), ([30, 60], 300_000)],
)
def test_changed_ramp_does_not_raise_the_weight_unless_it_begins_higher(weights: list[int], weight_ppm: int) -> None:
    running = Running(release())
    running.calmly(70)
    again = restarted(running, release(ramp={**RAMP, "weights": weights}))
    again.tick()
    assert again.weights == {"everyone": weight_ppm}


def test_completed_ramp_continues_when_it_is_extended() -> None:
    running = Running(release(ramp={**RAMP, "weights": [1, 10]}))
    running.calmly(130)
    assert running.stage == "complete"
    assert restarted(running).stage == "complete"
    again = restarted(running, release())
    again.tick()
    assert (again.stage, again.weights) == ("ramping", {"everyone": 100_000})


def test_ramp_can_be_removed_and_added() -> None:
    running = Running(release())
    running.calmly(70)
    without = restarted(running, release([{"name": "everyone", "weight": 7}], None))
    without.tick()
    assert (without.stage, without.weights) == ("idle", {"everyone": 70_000})
    again = restarted(without, release())
    again.tick()
    assert (again.stage, again.weights) == ("ramping", {"everyone": 10_000})


def test_another_candidate_starts_from_the_beginning() -> None:
    running = Running(release(comparisons=[ERRORS]))
    running.calmly(70)
    settings = release(comparisons=[ERRORS]).model_copy(update={"candidate": 3})
    again = restarted(running, settings)
    again.tick()
    assert again.weights == {"everyone": 10_000}
    assert again.controller.assessment().restart == 1


def test_changed_comparisons_restart_the_evidence_with_less_alpha() -> None:
    running = Running(release(comparisons=[ERRORS]))
    running.tick(failures=running.failed(2, 3))
    again = restarted(running, release(comparisons=[ERRORS], alpha="5%"))
    judgement = again.controller.assessment()
    assert (judgement.restart, judgement.failures.verdict) == (2, "no-data")


@pytest.mark.parametrize("later", ["a guard", "a ramp"])
def test_failures_that_nobody_compared_before_are_no_effect(later: str) -> None:
    """Nor do their keys count as known: workers looked for failures of the candidate rather than of both."""
    fixed = [{"name": "everyone", "weight": 10}]
    compared = release(fixed, comparisons=[ERRORS]) if later == "a guard" else release()
    running = Running(compared)
    of_key = FailureEvent(0, 0, 1, 100_000, True, FailureKind.FAILURE, 77)
    running.tick(failures=[*running.failed(20, 0), of_key])
    memory = json.loads(json.dumps(dump(running.controller, running.now_s)))
    memory |= {"failures_compared": False, "comparisons": [0.01]}
    earlier = {name: value for name, value in memory.items() if name != "failures_compared"}
    for one in (memory, earlier):
        again = Running(compared, load(compared, one, 5.0), 5.0)
        assert again.controller.guards.effects() == ()
        again.tick(failures=[of_key])
        assert [one.candidate_units for one in again.controller.guards.effects()] == [1]
    assert restarted(running).controller.guards.effects() == running.controller.guards.effects() != ()
    assert restarted(running, release(fixed)).controller.guards.effects() == (), "nor of nobody from now on"


@pytest.mark.parametrize(("threshold", "counted"), [("10ms", 5), ("20ms", None)])
def test_what_was_slow_by_another_threshold_is_no_effect(threshold: str, counted: int | None) -> None:
    slow = {"name": "slow", "metric": "slow_requests", "threshold": "10ms"}
    routes = [{"name": "pilot", "match": [{"customer": "pilot"}], "weight": 10}, *EVERYONE]
    running = Running(release(routes, comparisons=[slow]))
    of_pilot = {"kind": FailureKind.SLOW, "route": route_id("pilot")}
    running.tick(failures=[one._replace(**of_pilot) for one in running.failed(2, 3)])
    again = restarted(running, release(routes, comparisons=[{**slow, "threshold": threshold}], alpha="5%"))
    again.tick(failures=running.failed(0, 1))
    found = {one.route: one.candidate_units + one.stable_units for one in again.controller.guards.effects()
             if one.outcome == "slow_requests"}  # fmt: skip
    assert (found.get(None), found.get("pilot")) == (counted, counted)
    again.tick(failures=[one._replace(**of_pilot) for one in running.failed(0, 1)])
    (later,) = [one for one in again.controller.guards.effects() if one.route == "pilot"]
    assert later.stable_units + later.candidate_units == (counted or 0) + 1


def test_key_that_was_slow_by_another_threshold_counts_again() -> None:
    slow = {"name": "slow", "metric": "slow_requests", "threshold": "10ms"}
    running = Running(release(comparisons=[slow]))
    of_key = FailureEvent(0, 0, 1, 100_000, True, FailureKind.SLOW, 77)
    running.tick(failures=[of_key])
    for threshold, counted in (("10ms", 0), ("20ms", 1)):
        again = restarted(running, release(comparisons=[{**slow, "threshold": threshold}]))
        before = units_of(again)
        again.tick(failures=[of_key])
        assert units_of(again) == before + counted


def units_of(running: Running) -> int:
    """What has counted since the epoch began."""
    return sum(one.candidate_units for one in running.controller.guards.effects())


def test_removed_guard_no_longer_pauses_the_ramp() -> None:
    running = Running(release(limits=[LIMIT]))
    running.tick()
    running.fail(150)
    running.tick()
    assert running.stage == "paused"
    assert restarted(running).stage == "paused"
    again = restarted(running, release())
    again.tick()
    assert again.stage == "ramping"


def test_hold_survives_a_restart() -> None:
    running = Running(release())
    running.tick()
    running.controller.command(Event.HOLD, running.now_s)
    again = restarted(running)
    again.calmly(200)
    assert (again.stage, again.weights) == ("held", {"everyone": 10_000})


def test_release_state_is_restored_from_json() -> None:
    place = ReleaseState(
        stage=Stage.PAUSED,
        step=2,
        step_started_s=90.0,
        restart=4,
        epoch=7,
        epoch_began_ns=123,
        epoch_began_s=50.0,
        paused_by="hard",
        violated_s=80.0,
        weights_ppm={"everyone": 1},
    )
    again = ReleaseState.from_json(json.loads(json.dumps(place.to_json(100.0))), 20.0)
    assert (again.stage, again.step, again.step_started_s, again.restart) == (Stage.PAUSED, 2, 10.0, 4)
    assert (again.epoch, again.epoch_began_ns, again.paused_by, again.weights_ppm) == (None, 123, "hard", {})


def test_releases_with_a_version_that_is_another_file_now_start_over_and_others_go_on(tmp_path: Path) -> None:
    file, saved = tmp_path / "ramps.json", {"digits": {"versions": [2, 3]}, "tumor": {"versions": [1, None]}, "old": {}}
    forget_states(file, {("digits", 2)})
    assert not file.exists()
    file.write_text(json.dumps(saved))
    for others in (set[tuple[str, int]](), {("digits", 1), ("tumor", 2), ("iris", 1)}):
        forget_states(file, others)
        assert read_states(file) == saved
    forget_states(file, {("digits", 2), ("old", 1)})
    assert read_states(file).keys() == {"tumor", "old"}
    forget_states(file, {("tumor", 1)})
    assert read_states(file).keys() == {"old"}


@pytest.mark.parametrize("stage", ["held", "paused"])
def test_ramp_that_is_held_or_paused_stays_so_as_it_starts_over(tmp_path: Path, stage: str) -> None:
    running, file = Running(release(comparisons=[ERRORS], limits=[LIMIT])), tmp_path / "ramps.json"
    running.tick(failures=running.failed(2, 3))
    running.calmly(70)
    running.controller.state.apply(Event.HOLD) if stage == "held" else running.fail(150)
    running.tick()
    assert (running.stage, running.weights) == (stage, {"everyone": 100_000})
    file.write_text(json.dumps({"digits": dump(running.controller, running.now_s)}))
    forget_states(file, {("digits", running.settings.candidate or 0)})
    saved = read_states(file)["digits"]
    assert saved["guards"] == {}, "no key is known to have failed with the other file"
    again = Running(running.settings, load(running.settings, saved, 5.0), 5.0)
    again.tick()
    assert (again.stage, again.weights) == (stage, {"everyone": 10_000})
    judgement = again.controller.assessment()
    assert (judgement.restart, judgement.failures.verdict) == (running.controller.assessment().restart + 1, "no-data")
