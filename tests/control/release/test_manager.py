"""The release manager on real boards, rings and files, tick by tick, with a fake clock and simulated workers."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.control.guards import outcomes
from gateway.control.guards.observation import Observation
from gateway.control.record_writer import outcome_sums
from gateway.control.record_writer.collector import RecordCollector
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.control.release.manager import ReleaseManager
from gateway.control.release.stages import Event
from gateway.errors import Conflict, NotFound, Outcome
from gateway.records.line import line_of
from gateway.records.token import encoded_names
from gateway.routing.release import Decision as Drawn
from gateway.routing.release import Variant
from gateway.settings.gateway import RecordsSettings
from gateway.settings.routing import ReleaseSettings
from gateway.shm.boards import Boards
from gateway.shm.failure_events import FailureEvent, FailureKind
from gateway.shm.ring import Ring
from gateway.shm.scoreboard import VERSIONS, Scoreboard
from gateway.shm.slots import Slots
from gateway.shm.switchboard import RELEASES, Switchboard
from gateway.shm.tally import Tally
from tests.control.guards.test_effects import traffic

MODEL = "digits"
RAMP = {"weights": [1, 10, 100], "interval": "60s", "advance": "no-violation"}
ROUTES: list[dict[str, Any]] = [{"name": "pilot", "weight": 5}, {"name": "everyone", "weight": "ramp"}]
ERRORS = {"name": "errors", "metric": "failures"}
GATED = {
    "name": "gated",
    "weight": 20,
    "while": [{"metric": "candidate.latency_p99_ms", "below": 40, "window": "10s"}],
}


def release(routes: list[dict[str, Any]] = ROUTES, candidate: int = 2, **more: Any) -> ReleaseSettings:
    guards = {"comparisons": [ERRORS, *more.pop("comparisons", [])], **more.pop("guards", {})}
    return ReleaseSettings.model_validate(
        {"stable": 1, "candidate": candidate, "split": {"routes": routes}, "ramp": RAMP, "guards": guards, **more}
    )


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """The control process's side without its processes, and what a worker writes with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.board = Switchboard.create(folder / "board", 1)
        self.scoreboard = Scoreboard.create(folder / "scores", 1)
        self.versions, self.releases = Slots(VERSIONS, "versions"), Slots(RELEASES, "releases")
        name = f"test-{time.time_ns()}"
        self.records = RecordCollector(RecordsSettings(), folder, name, 1, lambda *file: self.stops.replace_file(*file))
        self.events = Ring.attach(self.records.rings[0].events)
        self.begin()

    def begin(self) -> None:
        """Start the control process's side."""
        self.stops = DecisionLog(self.folder)
        boards = Boards(self.board, self.scoreboard, self.versions, self.releases)
        self.release_manager = ReleaseManager(self.folder, boards, self.records, self.stops, self._stop, self.clock)

    def end(self) -> None:
        """End the control process's side."""
        self.release_manager.close()
        self.stops.close()

    def close(self) -> None:
        self.records.stop()
        self.end()
        self.board.segment.remove()
        self.scoreboard.segment.remove()

    def tally(self, version: int) -> Tally:
        return self.scoreboard.tally(0, self.versions.of(MODEL, version))

    def slot(self, version: int = 2) -> int:
        return self.releases.of(MODEL, version)

    def serve(self, settings: ReleaseSettings) -> None:
        self.release_manager.configure({MODEL: settings})

    def tick(self, elapsed_s: float = 0.05) -> None:
        self.clock.now_s += elapsed_s
        for _ in self.release_manager.steps():
            pass

    def answer(self, version: int = 2, count: int = 1, ms: float = 1.0) -> None:
        for _ in range(count):
            self.tally(version).success("candidate" if version > 1 else "stable", round(ms * 1e6), 0)

    def calmly(self, seconds: int) -> None:
        for _ in range(seconds):
            self.answer()
            self.tick(1.0)

    def fail(self, count: int, candidate: bool = True, epoch: int = 1, slot: int | None = None) -> None:
        """Failure events without a sticky key, as a worker sends them."""
        where = self.slot() if slot is None else slot
        event = FailureEvent(time.time_ns(), where, epoch, 50_000, candidate, FailureKind.FAILURE, None)
        for _ in range(count):
            assert self.events.append(event.pack())

    def weights(self, version: int = 2, count: int = 2) -> list[int]:
        return self.board.weights_ppm(self.slot(version), count)

    @property
    def done(self) -> list[tuple[str, str]]:
        return [(decision.action, decision.by) for decision in self.stops.decisions]

    def token(self, nonce: int, variant: Variant, weight_ppm: int) -> str:
        version = 2 if variant is Variant.CANDIDATE else 1
        drawn = Drawn(version, variant, "everyone", None, weight_ppm, 0.5)
        return self.records.keys.signer().token(encoded_names(MODEL, "everyone"), drawn, nonce, 3, False).decode()

    def _stop(self, name: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        self.board.stop(self.releases.of(name, candidate))
        return self.stops.stop(name, candidate, by, reason, evidence)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_live_weights_are_zero_before_the_first_tick(bench: Bench) -> None:
    bench.serve(release())
    assert bench.weights() == [0, 0]
    bench.tick()
    assert bench.weights(count=1) == [10_000]
    assert bench.release_manager.weights_ppm(MODEL) == {"everyone": 10_000}


def test_failures_stop_the_release_at_the_next_tick(bench: Bench) -> None:
    bench.serve(release())
    bench.tick()
    bench.fail(10)
    bench.tick()
    assert (bench.done, bench.board.stopped(bench.slot()), bench.weights(count=1)) == ([("stop", "errors")], True, [0])
    bench.tick()
    assert bench.done == [("stop", "errors")], "stopped twice"


def test_failures_of_another_release_or_epoch_are_ignored(bench: Bench) -> None:
    bench.serve(release())
    bench.tick()
    bench.fail(50, slot=7)
    bench.fail(50, epoch=0)
    bench.tick()
    assert not bench.done


def test_ramp_advances_and_keeps_its_step_after_a_restart(bench: Bench) -> None:
    bench.serve(release())
    bench.calmly(62)
    assert (bench.done, bench.weights(count=1)) == ([("advance", "ramp")], [100_000])
    bench.end()
    bench.board.set_weights(bench.slot(), [0])  # a new board
    bench.clock.now_s = 5.0  # another machine start: the clock begins anew
    bench.begin()
    bench.serve(release())
    bench.tick()
    assert bench.weights(count=1) == [100_000]
    progress = bench.release_manager.progress(MODEL)
    assert progress is not None
    assert progress.next_step_s == pytest.approx(59, abs=2)


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"digits": {}}', b'{"digits": {"versions": [1, 2], "place": 3}}'])
def test_damaged_ramp_state_restarts_the_ramp(bench: Bench, said: bytes) -> None:
    bench.end()
    (bench.folder / "ramps.json").write_bytes(said)
    bench.begin()
    bench.serve(release())
    bench.tick()
    assert bench.weights(count=1) == [10_000]


def test_resumed_release_starts_with_weight_0_until_the_next_tick(bench: Bench) -> None:
    bench.serve(release())
    bench.calmly(62)
    bench.board.stop(bench.slot())
    bench.release_manager.close_routes(MODEL)
    bench.board.resume(bench.slot())  # before any tick has seen the stop
    assert bench.weights(count=1) == [0]
    bench.tick()
    assert bench.weights(count=1) == [10_000]


def test_unchanged_settings_leave_the_ramp_undisturbed(bench: Bench) -> None:
    bench.serve(release())
    bench.calmly(30)
    bench.release_manager.close_changed({MODEL: release(), "other": release()})
    assert bench.weights(count=1) == [10_000]
    bench.release_manager.configure({MODEL: release(), "other": release()})
    bench.calmly(32)
    assert bench.done == [("advance", "ramp")]


def test_reordered_live_routes_are_closed_until_in_force(bench: Bench) -> None:
    bench.serve(release())
    bench.tick()
    changed = release([GATED, ROUTES[1]])
    bench.release_manager.close_changed({MODEL: changed})
    bench.answer()
    bench.tick()  # workers are swapping: the old controller still looks, its weights would go to other routes
    assert bench.weights() == [0, 0]
    bench.serve(changed)
    bench.tick()
    assert bench.weights() == [0, 10_000]


def test_candidate_that_returns_does_not_keep_its_last_weight(bench: Bench) -> None:
    bench.serve(release())
    bench.calmly(62)
    for candidate in (3, 2):
        settings = release(candidate=candidate)
        bench.release_manager.close_changed({MODEL: settings})
        assert bench.weights(candidate, 1) == [0]
        bench.serve(settings)
    bench.tick()
    assert bench.weights(count=1) == [10_000]


def test_open_route_stays_open_when_another_is_edited(bench: Bench) -> None:
    routes = [ROUTES[0], GATED]
    bench.serve(release(routes))
    bench.calmly(12)
    assert bench.weights(count=1) == [200_000]
    edited = release([{**ROUTES[0], "weight": 7}, GATED])
    bench.release_manager.close_changed({MODEL: edited})
    bench.serve(edited)
    bench.tick()
    assert bench.weights(count=1) == [200_000]


def test_failing_controller_stops_its_candidate_and_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        """A controller that raises."""

        def step(self, now_s: float, seen: Observation) -> None:
            raise ZeroDivisionError("a mistake")

    bench.release_manager.configure({MODEL: release(), "other": release()})
    bench.tick()
    controller = bench.release_manager._managed[MODEL].controller
    bench.release_manager._managed[MODEL].controller = Broken()  # type: ignore[assignment]
    bench.answer()
    bench.tick(0.1)
    assert bench.done == [("stop", "controller")]
    assert "ZeroDivisionError" in bench.stops.decisions[0].reason
    assert [record.getMessage() for record in caplog.records] == [f"the release controller of '{MODEL}' has failed"]
    assert not bench.board.stopped(bench.releases.of("other", 2))
    bench.board.resume(bench.slot())
    bench.tick()
    assert bench.board.stopped(bench.slot()), "without guards no one may resume it"
    bench.release_manager._managed[MODEL].controller = controller


def test_wrong_feedback_counts_only_for_randomised_traffic(bench: Bench) -> None:
    accuracy = {"name": "accuracy", "metric": "wrong_feedback"}
    bench.serve(release(comparisons=[accuracy]))
    bench.tick()
    for weight_ppm, done in ((1_000_000, []), (0, []), (50_000, [("stop", "accuracy")])):
        tell(bench, weight_ppm)
        bench.tick()
        assert bench.done == done


@pytest.mark.parametrize(("above", "done"), [(0.5, [("stop", "far-off")]), (0.7, [])])
def test_limit_on_the_mean_of_an_outcome(bench: Bench, above: float, done: list[tuple[str, str]]) -> None:
    limit = {"name": "far-off", "metric": "candidate.loss", "above": above, "min_requests": 20}
    bench.serve(release(guards={"limits": [limit]}))
    bench.tick()
    for nonce in range(30):
        told = feedback(bench.token(nonce, Variant.CANDIDATE, 50_000), correct=False)
        bench.records.feedback.add(line_of({**told, "outcomes": {"loss": 0.6}}))
    bench.tick()
    assert bench.done == done


def test_mirrored_pairs_count_at_any_weight(bench: Bench) -> None:
    mirrored = {"name": "mirrored", "metric": "mirror_disagreement"}
    bench.serve(release(comparisons=[mirrored], mirror={"weight": 100}))
    bench.tick()
    for nonce in range(24):
        copied = {"prediction_id": bench.token(nonce, Variant.STABLE, 0), "agreement": False, "predicted": 4}
        bench.records.feedback.add_mirrors(line_of(copied))
        bench.records.feedback.add(line_of(feedback(copied["prediction_id"], correct=True)))
    bench.tick()
    assert bench.done == [("stop", "mirrored")]
    found = {one.route: one.candidate_units for one in bench.release_manager.effects(MODEL)}
    assert found == {None: 24, "everyone": 24}, "nothing of those that no route takes"


def tell(bench: Bench, weight_ppm: int) -> None:
    """Record feedback that the candidate's predictions were wrong, a tenth of all, and stable's right."""
    for nonce in range(200):
        candidate = nonce % 10 == 0
        variant = Variant.CANDIDATE if candidate else Variant.STABLE
        prediction_id = bench.token(weight_ppm + nonce, variant, weight_ppm)
        bench.records.feedback.add(line_of(feedback(prediction_id, correct=not candidate)))


def feedback(prediction_id: str, *, correct: bool) -> dict[str, Any]:
    truth = 3 if correct else 5
    return {
        "prediction_id": prediction_id, "time_ns": 17, "truth": truth, "truth_class": truth, "correct": correct,
        "reward": None, "metrics": None,
    }  # fmt: skip


def test_hold_and_continue_take_effect_and_are_recorded(bench: Bench) -> None:
    bench.serve(release())
    bench.tick()
    bench.release_manager.command(MODEL, Event.HOLD, "ann", "lunch", {})
    bench.calmly(120)
    assert bench.weights(count=1) == [10_000]
    with pytest.raises(Conflict, match="hold"):
        bench.release_manager.command(MODEL, Event.HOLD, "ann", "again", {})
    bench.release_manager.command(MODEL, Event.CONTINUE, "ann", "back", {})
    bench.calmly(62)
    assert bench.done == [("hold", "ann"), ("continue", "ann"), ("advance", "ramp")]
    with pytest.raises(NotFound, match="digits"):
        bench.release_manager.command("nothing", Event.HOLD, "ann", "", {})
    bench.serve(release([ROUTES[0]]))
    with pytest.raises(Conflict, match="no route with weight: ramp"):
        bench.release_manager.command(MODEL, Event.HOLD, "ann", "", {})


def test_hold_survives_a_kill(bench: Bench) -> None:
    bench.serve(release())
    bench.tick()
    bench.release_manager.command(MODEL, Event.HOLD, "ann", "lunch", {})
    bench.release_manager._file_writer.close()  # what it has been told so far, and nothing more
    bench.begin()
    bench.serve(release())
    bench.calmly(120)
    assert bench.weights(count=1) == [10_000]
    assert bench.done == [("hold", "ann")]


def test_idle_release_is_stepped_four_times_a_second_and_at_once_on_news(bench: Bench) -> None:
    bench.serve(release())
    looks = [0.0]
    step = bench.release_manager._managed[MODEL].controller.step

    def counting(now_s: float, seen: Observation) -> Any:
        looks.append(now_s)
        return step(now_s, seen)

    bench.release_manager._managed[MODEL].controller.step = counting  # type: ignore[method-assign]
    for _ in range(40):
        bench.tick()
    assert 8 <= len(looks) <= 11
    for news in (lambda: bench.fail(1), lambda: bench.board.stop(bench.slot())):
        before = len(looks)
        news()
        bench.tick(0.01)
        assert len(looks) == before + 1
    for news in (bench.answer, lambda: bench.tally(1).failure("stable", Outcome.MODEL_ERROR, 1)):
        before = len(looks)
        news()
        bench.tick()
        bench.tick()
        assert looks[before:] == [bench.clock.now_s]


def test_controller_state_is_on_disk_after_a_decision(bench: Bench) -> None:
    bench.serve(release())
    bench.calmly(62)
    bench.end()
    (memory,) = orjson.loads((bench.folder / "ramps.json").read_bytes()).values()
    assert (memory["place"]["step"], memory["weight_ppm"]) == (1, 100_000)
    bench.begin()


def test_epochs_increase_across_candidates_restarts_and_boards(bench: Bench) -> None:
    bench.serve(release())
    bench.board.resume(bench.slot())
    bench.tick()
    assert bench.board.epoch(bench.slot()) == 2
    bench.end()
    bench.board = Switchboard.create(bench.folder / "board", 1)  # a new control has a new one
    bench.releases = Slots(RELEASES, "releases")
    bench.begin()
    bench.serve(release())
    assert bench.board.epoch(bench.slot()) == 2, "its predictions are still evidence"
    bench.board.stop(bench.slot())
    bench.serve(release(candidate=3))
    assert bench.board.epoch(bench.slot(3)) == 3
    bench.serve(ReleaseSettings(stable=1))
    bench.serve(release(stable=4, candidate=2))
    assert bench.board.epoch(bench.slot()) == 4, "compared with another stable"
    assert bench.board.stopped(bench.slot()), "which lets nothing go"


@pytest.mark.parametrize("epoch", [None, "7", -(2**70), 2**70, 1.5, True])
def test_invalid_stored_epoch_is_ignored(bench: Bench, epoch: object) -> None:
    bench.serve(release())
    bench.end()
    file = bench.folder / "ramps.json"
    document = orjson.loads(file.read_bytes())
    document[MODEL]["epoch"] = epoch
    file.write_text(json.dumps(document))
    bench.begin()
    bench.serve(release())
    assert bench.board.epoch(bench.slot()) == 1


@pytest.mark.parametrize("pauses", [1, 2, 3])
def test_step_of_a_release_removed_between_two_steps_does_nothing(bench: Bench, pauses: int) -> None:
    bench.serve(release())
    bench.tick()
    before = bench.done
    bench.clock.now_s += 0.3
    steps = bench.release_manager.steps()
    for _ in range(pauses):  # before its counters are read, before they are compared, before the step
        next(steps)
    bench.release_manager.configure({})
    bench.board.set_weights(bench.slot(), [7, 7])  # whoever has the slot now
    assert set(steps) <= {None}
    assert bench.weights() == [7, 7], "what is not steered any more takes no step"
    assert bench.done == before


def test_metrics_that_guards_name_are_counted_whatever_came_first(bench: Bench) -> None:
    limit = {"name": "r", "metric": "candidate.metrics.revenue", "below": 1, "window": "10s", "min_requests": 1}
    bench.serve(release(guards={"limits": [limit]}))
    feedback = bench.records.feedback
    decision = Drawn(2, Variant.CANDIDATE, "everyone", 123_456, 50_000, 0.05)
    for number, name in enumerate([*map(str, range(40)), "revenue"]):
        token = bench.records.keys.signer().token(encoded_names(MODEL, "everyone"), decision, number, 3, False)
        fields = {"prediction_id": token.decode(), "time_ns": 1, "truth": None, "metrics": {name: 2.0}}
        feedback.add(line_of({"kind": "feedback", **fields}))
    sums = feedback.by_version[MODEL, 2, Variant.CANDIDATE].sums.outcomes
    assert "metrics.revenue" in sums and len(sums) == 33


@pytest.mark.parametrize("declared", [frozenset[str](), frozenset({"metrics.revenue"})])
def test_metrics_that_model_yaml_declares_are_counted_whatever_came_first(
    bench: Bench, declared: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_sums, "MOST_METRICS", 1)
    monkeypatch.setattr(outcomes, "MOST_PARTS", 1)
    bench.serve(release())
    bench.tick()
    tell_metrics(bench, 0, ["clicks"])
    bench.tick()
    before = bench.release_manager.managed[MODEL]
    bench.release_manager.configure({MODEL: before.settings}, {MODEL: declared})
    assert (bench.release_manager.managed[MODEL] is before) == (not declared)
    tell_metrics(bench, 1, ["visits", "revenue", "revenue"])
    bench.tick(1.0)
    counted = {"metrics.clicks", *declared}
    assert bench.records.feedback.by_version[MODEL, 2, Variant.CANDIDATE].sums.outcomes.keys() == counted
    assert bench.release_manager.managed[MODEL].controller.guards.to_json()["outcomes"].keys() == counted


def tell_metrics(bench: Bench, first: int, names: list[str]) -> None:
    """Record one item of feedback for each name, on the candidate's predictions from number `first` on."""
    for number, name in enumerate(names, first):
        token = bench.token(number, Variant.CANDIDATE, 50_000)
        fields = {"prediction_id": token, "time_ns": 1, "truth": None, "metrics": {name: 2.0}}
        bench.records.feedback.add(line_of({"kind": "feedback", **fields}))


def test_effects_are_those_of_the_candidate_that_is_asked_for(bench: Bench) -> None:
    bench.serve(release())
    bench.release_manager.managed[MODEL].controller.guards._effects.add({"wrong": traffic(10, 0.5, 0.5)}, 10**9)
    assert len(bench.release_manager.effects(MODEL)) == len(bench.release_manager.effects(MODEL, 2)) == 1
    assert bench.release_manager.effects(MODEL, 3) == ()
