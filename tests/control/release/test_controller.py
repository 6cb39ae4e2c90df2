"""The release controller: ramps, stops, pauses and orders, tick by tick."""

import json
import math

import numpy as np
import pytest

from gateway.control.guards.observation import MirrorPair
from gateway.control.release.actions import Advance, Complete, Continue, Pause, SetWeight, Stop
from gateway.control.release.audit import recompute
from gateway.control.release.stages import Event
from gateway.errors import Conflict
from gateway.shm.failure_events import FailureKind
from tests.control.release.running import ERRORS, RAMP, Running, counts, release

SAFE = {**RAMP, "advance": "safe"}
LIMIT = {"name": "hard", "metric": "candidate.error_rate", "above": "5%", "window": "10s", "min_requests": 20}
DRIFT = {"name": "drift", "metric": "predicted_class"}
SLOW = {"name": "slow", "metric": "slow_requests", "threshold": "50ms"}
ACCURACY = {"name": "accuracy", "metric": "wrong_feedback"}
LOSS = {"name": "loss", "metric": "loss"}
REWARD = {"name": "reward", "metric": "reward", "range": [0, 1], "tolerance": 0.01}
COMPLAINTS = {"name": "complaints", "metric": "complaints"}


def test_ramp_without_failures_rises_step_by_step_and_completes() -> None:
    running = Running(release())
    running.tick()
    assert running.weights == {"everyone": 10_000}
    running.calmly(250)
    assert running.kinds() == ["Advance", "Advance", "Advance", "Complete"]
    assert [a.weight_ppm for a in running.actions if isinstance(a, SetWeight)] == [10_000, 100_000, 500_000, 1_000_000]
    assert [a.step for a in running.actions if isinstance(a, Advance)] == [1, 2, 3]
    assert (running.stage, running.weights) == ("complete", {"everyone": 1_000_000})


def test_step_lasts_at_least_the_interval() -> None:
    running = Running(release())
    running.calmly(60)
    assert running.weights == {"everyone": 10_000}
    running.calmly(1)
    assert running.weights == {"everyone": 100_000}


def test_interval_without_requests_does_not_advance_the_ramp() -> None:
    running = Running(release())
    for _ in range(300):
        running.tick()
    assert running.weights == {"everyone": 10_000}


def test_safe_ramp_waits_for_evidence() -> None:
    running = Running(release(ramp=SAFE, comparisons=[ERRORS]))
    running.calmly(300)
    assert running.weights == {"everyone": 10_000}
    running.answer(2)
    running.tick(failures=running.failed(30, 800, weight_ppm=100_000))
    assert running.weights == {"everyone": 100_000}
    (advance,) = (action for action in running.actions if isinstance(action, Advance))
    assert "1.5 times as often" in advance.reason
    assert advance.evidence["guards"][0]["verdict"] == "safe"
    running.calmly(300)
    assert running.weights == {"everyone": 100_000}  # what was shown at one step is not shown at the next


def test_safe_ramp_needs_no_configured_comparison() -> None:
    running = Running(release(ramp=SAFE))
    running.calmly(60)
    running.answer(2)
    running.tick(failures=running.failed(30, 800))
    assert running.weights == {"everyone": 100_000}
    assert running.kinds() == ["Advance"]
    running.tick(failures=running.failed(500, 0))
    assert running.kinds() == ["Advance"]  # nor does what no one asked for stop anything


def test_failures_stop_the_candidate_with_the_reason() -> None:
    running = Running(release(comparisons=[ERRORS]))
    running.tick()
    running.tick(failures=running.failed(20, 20))
    stop, weight = running.actions[-2:]
    assert isinstance(stop, Stop) and isinstance(weight, SetWeight)
    assert stop.guard == "errors"
    assert stop.reason.startswith("the candidate fails more often than stable (E = 10^")
    assert stop.evidence["guards"][0]["failures"] == [[0.1, 20, 20]]
    assert (running.stage, running.weights) == ("stopped", {"everyone": 0})


def test_failures_in_proportion_to_the_weight_do_not_stop() -> None:
    running = Running(release(comparisons=[ERRORS]))
    running.tick()
    for _ in range(50):
        running.tick(failures=running.failed(2, 18))
    assert running.kinds() == []


@pytest.mark.parametrize(
    ("comparison", "events"),
    [
        (SLOW, lambda running: {"failures": running.failed(30, 20, kind=FailureKind.SLOW)}),
        (ACCURACY, lambda running: {"feedback": running.judged(60, 100, right=(40, 800))}),
        (LOSS, lambda running: {"feedback": running.judged(60, 100, right=(40, 800), outcome="loss")}),
        (REWARD, lambda running: {"feedback": running.judged(30, 800, right=(70, 100), outcome="reward")}),
        (COMPLAINTS, lambda running: {"feedback": running.judged(40, 60, outcome="metrics.complaint")}),
        (
            {"name": "mirror", "metric": "mirror_disagreement"},
            lambda running: {"pairs": [MirrorPair(True, False)] * 60 + [MirrorPair(False, True)] * 10},
        ),
    ],
)
def test_each_comparison_stops_by_its_own_observations(comparison: dict, events: object) -> None:
    others = [guard for guard in (ERRORS, SLOW, ACCURACY, LOSS, REWARD) if guard["name"] != comparison["name"]]
    for comparisons, stops in (([comparison], True), (others, False)):
        running = Running(release(comparisons=comparisons))
        running.tick()
        running.tick(**events(running))  # type: ignore[operator]
        assert running.kinds() == (["Stop"] if stops else [])


def test_concordant_pairs_are_no_evidence() -> None:
    running = Running(release(comparisons=[{"name": "mirror", "metric": "mirror_disagreement"}]))
    running.tick(pairs=[MirrorPair(True, True), MirrorPair(False, False)] * 1000)
    assert running.controller.assessment().results[0].verdict == "no-data"


def test_events_of_a_former_epoch_are_ignored() -> None:
    running = Running(release(comparisons=[ERRORS, ACCURACY]))
    running.tick()
    running.stop()
    running.tick()
    running.resume()
    running.tick()
    running.tick(failures=running.failed(50, 0, epoch=1), feedback=running.judged(90, 0, right=(0, 800), ago_s=30))
    assert running.kinds() == []
    running.tick(failures=running.failed(50, 0))
    assert running.kinds() == ["Stop"]


def test_drift_pauses_until_an_operator_continues() -> None:
    running = Running(release(comparisons=[DRIFT, ERRORS]))
    seen = np.zeros((2, 1, 2), np.int64)
    for _ in range(40):
        seen += np.array([[[2, 18]], [[90, 90]]])
        running.answer(2)
        running.tick(classes=counts(seen[0].tolist(), seen[1].tolist()))
    (pause,) = (action for action in running.actions if isinstance(action, Pause))
    assert pause.guard == "drift"
    assert "distribution of predicted classes" in pause.reason
    running.calmly(300)
    assert (running.stage, running.weights) == ("paused", {"everyone": 10_000})
    running.controller.command(Event.CONTINUE, running.now_s)
    running.calmly(59)
    assert running.weights == {"everyone": 10_000}  # the interval has begun anew
    running.calmly(5)
    assert running.weights == {"everyone": 100_000}


def test_limit_stops_the_candidate() -> None:
    running = Running(release(limits=[LIMIT]))
    running.calmly(10, per_s=4)
    running.fail(1)
    running.tick()
    assert running.kinds() == []  # 1 in 37
    running.fail(3)
    running.tick()
    (stop,) = (action for action in running.actions if isinstance(action, Stop))
    assert stop.guard == "hard"
    assert "candidate.error_rate is 0.1" in stop.reason
    limit = stop.evidence["limits"][0]
    assert limit["value"] > limit["above"] == 0.05 and limit["requests"] >= limit["min_requests"]


def test_limit_needs_min_requests_and_ignores_those_before_a_resume() -> None:
    running = Running(release(limits=[LIMIT]))
    running.tick()
    running.fail(19)
    running.tick()
    assert running.kinds() == []
    running.fail(2)
    running.tick()
    assert running.kinds() == ["Stop"]
    running.tick()
    running.resume()
    running.tick()
    running.answer(30)
    running.tick()
    assert running.kinds() == ["Stop"]
    assert running.stage == "ramping"


def test_limit_pauses_the_ramp_until_it_is_no_longer_violated() -> None:
    running = Running(release(limits=[{**LIMIT, "action": "pause"}]))
    running.calmly(20)
    running.fail(5)
    running.tick()
    assert running.stage == "paused"
    running.calmly(100)
    pause, go_on = (action for action in running.actions if isinstance(action, Pause | Continue))
    assert (pause.guard, go_on.guard) == ("hard", "hard")
    assert go_on.evidence["time_ns"] - pause.evidence["time_ns"] >= 18e9  # out of the window, then kept for a window
    assert running.weights == {"everyone": 100_000}


def test_hold_keeps_the_weight_until_continue() -> None:
    running = Running(release())
    running.calmly(30)
    running.controller.command(Event.HOLD, running.now_s)
    running.calmly(200)
    assert (running.stage, running.weights) == ("held", {"everyone": 10_000})
    running.controller.command(Event.CONTINUE, running.now_s)
    running.calmly(61)
    assert running.weights == {"everyone": 100_000}


def test_held_release_can_still_be_stopped() -> None:
    running = Running(release(comparisons=[ERRORS]))
    running.tick()
    running.controller.command(Event.HOLD, running.now_s)
    running.tick(failures=running.failed(30, 0))
    assert running.kinds() == ["Stop"]


def test_stopped_release_has_weight_0_and_restarts_the_ramp_on_resume() -> None:
    running = Running(release(comparisons=[ERRORS]))
    running.calmly(70)
    assert running.weights == {"everyone": 100_000}
    running.stop()
    running.calmly(200)
    assert running.weights == {"everyone": 0}
    running.resume()
    running.tick()
    assert (running.stage, running.weights) == ("ramping", {"everyone": 10_000})
    assert running.controller.assessment().restart == 3


def test_stop_and_resume_between_two_ticks_restart_the_ramp() -> None:
    running = Running(release())
    running.calmly(70)
    running.resume()
    running.tick()
    assert running.weights == {"everyone": 10_000}


def test_own_stop_holds_before_the_switchboard_shows_it() -> None:
    running = Running(release(comparisons=[ERRORS]))
    running.tick(failures=running.failed(30, 0))
    running.stopped = False
    running.tick(failures=running.failed(30, 0))
    assert running.kinds() == ["Stop"]
    assert running.weights == {"everyone": 0}


def test_complete_order_ends_the_ramp() -> None:
    running = Running(release())
    running.tick()
    running.controller.command(Event.COMPLETE, running.now_s)
    running.calmly(300)
    assert (running.stage, running.weights) == ("complete", {"everyone": 10_000})


def test_order_that_does_not_fit_the_stage_is_refused() -> None:
    running = Running(release())
    running.tick()
    with pytest.raises(Conflict, match="'continue' is not possible while the release is ramping; possible are"):
        running.controller.command(Event.CONTINUE, running.now_s)
    with pytest.raises(Conflict, match="not a command for a ramp"):
        running.controller.command(Event.RESUME, running.now_s)


def test_without_a_ramp_weights_are_as_configured_and_guards_work() -> None:
    routes = [{"name": "pilot", "weight": 100}, {"name": "rest", "weight": 5}]
    running = Running(release(routes, None, comparisons=[ERRORS]))
    running.calmly(300)
    assert (running.stage, running.weights) == ("idle", {"pilot": 1_000_000, "rest": 50_000})
    running.tick(failures=running.failed(30, 0, weight_ppm=50_000))
    assert running.weights == {"pilot": 0, "rest": 0}


def test_failures_that_neither_a_guard_nor_a_ramp_compares_are_not_counted() -> None:
    """With a ramp they are, without being a reason to stop."""
    units = []
    for weight in (10, "ramp"):
        running = Running(release([{"name": "everyone", "weight": weight}]))
        running.tick(failures=running.failed(30, 0))
        units.append([one.candidate_units for one in running.controller.guards.effects()])
        assert not [one for one in running.actions if isinstance(one, Stop)]
    assert units == [[], [30]]


def test_failures_at_weight_100_are_no_evidence() -> None:
    running = Running(release(comparisons=[ERRORS]))
    running.tick(failures=running.failed(500, 0, weight_ppm=1_000_000))
    assert running.kinds() == []
    assert running.controller.assessment().results[0].verdict == "no-data"


def test_weight_follows_the_conditions_of_a_route() -> None:
    condition = {"metric": "stable.error_rate", "below": "10%", "window": "10s"}
    running = Running(release([{"name": "some", "weight": 20, "while": [condition]}], None))
    running.tick()
    assert running.weights == {"some": 0}
    for second in range(12):
        running.answer(5, "stable")
        running.tick()
        assert running.weights == {"some": 0 if second < 10 else 200_000}
    running.fail(9, "stable")
    running.tick()
    assert running.weights == {"some": 0}
    assert "while: stable.error_rate is 0.1" in running.actions[-1].reason


def test_ramp_of_a_closed_route_does_not_rise() -> None:
    condition = {"metric": "stable.error_rate", "below": "10%", "window": "10s"}
    running = Running(release([{"name": "everyone", "weight": "ramp", "while": [condition]}]))
    running.calmly(300)
    assert (running.stage, running.weights) == ("ramping", {"everyone": 0})


def test_decision_can_be_recomputed_from_its_record() -> None:
    running = Running(release(comparisons=[ERRORS, SLOW, ACCURACY, DRIFT], alpha="5%"))
    seen = np.zeros((2, 2, 3), np.int64)
    generator = np.random.default_rng(1)
    while not any(isinstance(action, Stop) for action in running.actions):
        seen += generator.multinomial([[20, 30], [200, 300]], [0.2, 0.3, 0.5])
        failures = (
            running.failed(1, 2, 50_000) + running.failed(1, 1, 10_000) + running.failed(1, 3, kind=FailureKind.SLOW)
        )
        running.answer(2)
        running.tick(
            10,
            failures=failures,
            feedback=running.judged(1, 4, right=(5, 50)),
            classes=counts(seen[0].tolist(), seen[1].tolist()),
        )
    stop = next(action for action in running.actions if isinstance(action, Stop))
    record = json.loads(json.dumps(stop.evidence))
    again = recompute(record)
    assert again.guards == {guard["name"]: pytest.approx(guard["log10_e"]) for guard in record["guards"]}
    assert again.safe == {
        g["name"]: pytest.approx(g["log10_safe"]) for g in record["guards"] if g["metric"] != "predicted_class"
    }
    assert again.combined == {action: pytest.approx(log10_e) for action, log10_e in record["log10_e"].items()}
    assert again.combined["stop"] >= -math.log10(record["alpha_j"])
    assert record["alpha_j"] == 0.05 * 6 / (math.pi * record["restart"]) ** 2
    assert {guard["share"] for guard in record["guards"]} == {1 / 3, 1.0}
    forged = json.loads(json.dumps(record))
    forged["guards"][0]["failures"][0][1] += 5
    assert recompute(forged).combined["stop"] > again.combined["stop"] + 0.5
    forged = json.loads(json.dumps(record))
    forged["guards"][2]["means"]["since"][-1][2] = 0.5
    assert recompute(forged).guards["accuracy"] != pytest.approx(again.guards["accuracy"], rel=1e-6)


def test_effects_are_those_of_the_present_epoch_and_outlast_a_step() -> None:
    running = Running(release())
    running.tick()
    running.tick(feedback=running.judged(1, 1, right=(4, 8)))
    running.calmly(70)
    assert running.kinds() == ["Advance"]
    (effect,) = running.controller.guards.effects()
    assert (effect.outcome, effect.candidate_units, effect.stable_units) == ("wrong", 5, 9)
    running.stop()
    running.tick()
    running.resume()
    running.tick()
    assert running.controller.guards.effects() == ()


def test_stop_does_not_wait_for_the_effects() -> None:
    running = Running(release(comparisons=[{"name": "accuracy", "metric": "wrong_feedback"}]))
    running.tick()
    running.tick(feedback=running.judged(1, 1, right=(4, 8)))
    running.calmly(70)
    running.tick(feedback=running.judged(900, 0, right=(0, 900)))
    assert running.kinds() == ["Advance", "Stop"]
    assert ["effects" in action.evidence for action in running.actions if isinstance(action, Advance | Stop)] == [
        True,
        False,
    ]


def test_all_actions_can_be_recorded_as_json() -> None:
    running = Running(release(comparisons=[ERRORS, DRIFT], limits=[LIMIT]))
    running.calmly(250)
    assert running.kinds("Advance") == ["SetWeight"] * 4 + ["Complete"]
    assert all(action.reason and json.dumps(action.evidence) for action in running.actions)
    assert isinstance(running.actions[-1], Complete)
