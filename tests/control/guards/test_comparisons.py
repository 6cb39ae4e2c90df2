"""Comparisons and limits: valid settings, verdicts, and how alpha is divided."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.control.guards.comparisons import Guards, GuardVerdict
from gateway.control.guards.failure_counts import FailureCounts
from gateway.control.guards.observation import FeedbackEvent, Observation
from gateway.control.guards.window import MetricWindow
from gateway.evidence.effect import EffectVerdict
from gateway.routing.buckets import chance_beside_baseline, in_baseline
from gateway.settings.guards import ComparisonSettings, GuardsSettings, LimitSettings, RampSettings
from gateway.shm.failure_events import FailureEvent, FailureKind

ERRORS = {"name": "errors", "metric": "failures"}
SLOW = {"name": "slow", "metric": "slow_requests", "threshold": "50ms"}
DRIFT = {"name": "drift", "metric": "predicted_class"}


def judged(comparisons: list[dict[str, Any]], candidate: int, stable: int, restart: int = 1) -> Any:
    guards = Guards(GuardsSettings.model_validate({"comparisons": comparisons}))
    events = [
        FailureEvent(0, 0, 1, 100_000, is_candidate, FailureKind.FAILURE, None)
        for is_candidate, count in ((True, candidate), (False, stable))
        for _ in range(count)
    ]
    guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=MetricWindow(()), failures=events), 0)
    return guards.assess(restart)


@pytest.mark.parametrize(
    ("candidate", "stable", "verdict"),
    [
        (0, 0, GuardVerdict.NO_DATA),
        (1, 9, GuardVerdict.INCONCLUSIVE),
        (6, 2, GuardVerdict.HARMFUL),  # the design's vector: E = 1431
        (40, 380, GuardVerdict.INCONCLUSIVE),  # the design's vector: E = 49.9 for safety, and 100 are needed
        (40, 450, GuardVerdict.SAFE),
    ],
)
def test_verdict_of_a_single_comparison(candidate: int, stable: int, verdict: GuardVerdict) -> None:
    judgement = judged([ERRORS], candidate, stable)
    assert judgement.failures.verdict is verdict
    assert (judgement.stop is not None) == judgement.harmful == (verdict is GuardVerdict.HARMFUL)
    assert judgement.safe == (verdict is GuardVerdict.SAFE)


def test_comparisons_that_stop_share_alpha_and_those_that_pause_do_not() -> None:
    shares = {found.name: found.share for found in judged([ERRORS, SLOW, DRIFT], 0, 0).results}
    assert shares == {"errors": 0.5, "slow": 0.5, "drift": 1.0}


def test_combined_stop_names_the_strongest_comparison() -> None:
    alone, shared = judged([ERRORS], 5, 3), judged([SLOW, ERRORS], 5, 3)
    assert math.exp(alone.log_e["stop"]) == pytest.approx(2 * math.exp(shared.log_e["stop"]) - 1)
    assert alone.stop.name == "errors"
    assert shared.stop is None
    assert judged([SLOW, ERRORS], 9, 3).stop.name == "errors"


def test_later_restart_needs_more_evidence() -> None:
    assert judged([ERRORS], 6, 2, restart=2).stop is not None
    assert judged([ERRORS], 6, 2, restart=3).stop is None  # 1431 < 100 * 9 * 1.64


def test_effects_say_how_many_times_as_often_failures_have_come_since_the_epoch_began() -> None:
    guards = Guards(GuardsSettings.model_validate({"comparisons": [ERRORS, SLOW]}))
    assert guards.effects() == ()

    def ingest(kind: FailureKind, candidate: int, stable: int) -> None:
        events = [FailureEvent(0, 0, 1, 100_000, of, kind, None) for of in [True] * candidate + [False] * stable]
        guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=MetricWindow(()), failures=events), 0)

    ingest(FailureKind.FAILURE, 10, 20)
    ingest(FailureKind.SLOW, 2, 18)
    guards.restart()
    ingest(FailureKind.FAILURE, 10, 20)
    failures, slow = guards.effects()
    assert (slow.outcome, slow.effect, slow.candidate_units) == ("slow_requests", pytest.approx(0.0), 2)
    assert (failures.outcome, failures.effect, failures.candidate_units) == ("failures", pytest.approx(3.5), 20)
    assert (slow.verdict, failures.verdict) == (EffectVerdict.UNKNOWN, EffectVerdict.WORSE)
    again = Guards(GuardsSettings.model_validate({"comparisons": [ERRORS, SLOW]}))
    again.restore(guards.to_json())
    assert again.effects() == guards.effects()
    guards.reset()
    assert guards.effects() == ()


def test_failures_that_neither_a_guard_nor_a_ramp_compares_are_not_counted() -> None:
    """Workers do not look then whether stable's answers are valid, so those that both versions share have one side."""
    guards = Guards(GuardsSettings.model_validate({"comparisons": [SLOW]}), failures_compared=False)
    events = [FailureEvent(0, 0, 1, 100_000, True, kind, None) for kind in FailureKind for _ in range(30)]
    guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=MetricWindow(()), failures=events), 0)
    assert [one.outcome for one in guards.effects()] == ["slow_requests"]
    assert guards.assess(1).failures.verdict is GuardVerdict.NO_DATA


def test_slow_requests_of_sticky_keys_stop_no_twin_after_the_ramp_has_passed_one_half() -> None:
    """Beside a baseline the chance is one half up to there, wherever the key's bucket is."""
    guards = Guards(GuardsSettings.model_validate({"comparisons": [SLOW]}))
    for weight_ppm in (100_000, 250_000, 500_000, 750_000):
        guards.restart()
        events = [
            FailureEvent(0, 0, 1, chance_beside_baseline(weight_ppm), bucket < weight_ppm, FailureKind.SLOW, bucket)
            for bucket in range(0, 1_000_000, 2_000)
            if bucket < weight_ppm or in_baseline(bucket, weight_ppm)
        ]
        guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=MetricWindow(()), failures=events), 0)
        assert guards.assess(1).stop is None


def test_without_comparisons_nothing_stops_or_pauses() -> None:
    judgement = judged([], 100, 0)
    assert judgement.failures.verdict is GuardVerdict.HARMFUL
    assert (judgement.stop, judgement.pause) == (None, None)


@pytest.mark.parametrize(
    ("settings", "said", "problem"),
    [
        (GuardsSettings, {"alpha": 0}, "above 0%"),
        (GuardsSettings, {"comparisons": [ERRORS, {**SLOW, "name": "errors"}]}, "two guards are named 'errors'"),
        (GuardsSettings, {"comparisons": [ERRORS, {**ERRORS, "name": "b"}]}, "two guards compare 'failures'"),
        (ComparisonSettings, {"name": "slow", "metric": "slow_requests"}, "needs a threshold"),
        (ComparisonSettings, {**ERRORS, "threshold": "50ms"}, "no other metric has one"),
        (LimitSettings, {"name": "a", "metric": "stable.accuracy"}, "either below or above"),
        (RampSettings, {"weights": [1, 5, 5]}, "each larger than the one before"),
        (RampSettings, {"weights": [0, 5]}, "above 0"),
        (RampSettings, {"weights": []}, "above 0"),
        (RampSettings, {"weights": [50, 200]}, "not a percentage from 0 to 100"),
    ],
)
def test_invalid_guard_settings_are_refused(settings: Any, said: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings.model_validate(said)


def test_drift_comparison_pauses_by_default() -> None:
    assert ComparisonSettings.model_validate(DRIFT).action == "pause"
    assert ComparisonSettings.model_validate({**DRIFT, "action": "stop"}).action == "stop"
    assert ComparisonSettings.model_validate(ERRORS).action == "stop"


def test_ramp_weights_are_converted_to_ppm() -> None:
    assert RampSettings().weights_ppm == (1_000, 10_000, 50_000, 250_000, 500_000, 1_000_000)


def test_complaint_counts_once_and_a_truth_is_none() -> None:
    """A truth of both kinds that comes more often for the candidate would look like complaints."""
    guards = Guards(GuardsSettings.model_validate({"comparisons": [{"name": "c", "metric": "complaints"}]}))
    told = [{"wrong": 1.0}, {"metrics.complaint": 1.0}, {"metrics.complaint": 0.0}]
    events = [FeedbackEvent(0, 0, 100_000, True, None, outcomes) for outcomes in told]
    guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=MetricWindow(()), feedback=events), 0)
    process = guards.comparisons[0].process
    assert isinstance(process, FailureCounts) and process.counts == {(0.1, True): 1}
