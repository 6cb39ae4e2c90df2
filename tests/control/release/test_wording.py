"""The wording of comparisons without evidence, and which requests count as failed."""

from typing import Any

import pytest

from gateway.control.guards.comparisons import ComparisonResult, Guards, GuardVerdict
from gateway.control.guards.observation import ClassCounts, Observation
from gateway.control.record_writer.outcome_sums import FeedbackSums
from gateway.control.release.release_status import VersionStatus
from gateway.control.release.wording import verdict_text
from gateway.errors import Outcome, request_counts
from gateway.records.measures import OutcomeSum
from gateway.routing.release import Variant
from gateway.settings.guards import GuardsSettings
from gateway.shm.tally import Tally
from tests.control.guards.test_drift import Traffic


def counted(variant: Variant, ok: int, labelled: int = 0, **failed: int) -> VersionStatus:
    tally = Tally()
    for _ in range(ok):
        tally.success(variant, 1000, 1)
    for outcome, count in failed.items():
        for _ in range(count):
            tally.failure(variant, Outcome(outcome), 1000)
    return VersionStatus(1, variant, tally.read(), FeedbackSums(outcomes={"wrong": OutcomeSum(labelled)}))


@pytest.mark.parametrize(
    ("metric", "stable", "candidate", "words"),
    [
        ("failures", {"ok": 30}, {"ok": 20}, "no failures yet"),
        ("failures", {"ok": 30, "client_error": 5}, {"ok": 20, "client_error": 5}, "no failures yet"),
        ("failures", {"ok": 30, "timeout": 1}, {"ok": 20}, "no failures to compare yet"),
        ("failures", {"ok": 30}, {"ok": 0}, "no requests to the candidate yet"),
        ("failures", {"ok": 0, "client_error": 9}, {"ok": 0}, "no requests to stable yet"),
        ("slow_requests", {"ok": 30}, {"ok": 20}, "no slow requests yet"),
        ("predicted_class", {"ok": 30}, {"ok": 20}, "too few rows yet"),
        ("wrong_feedback", {"ok": 30}, {"ok": 20}, "no feedback with a truth yet"),
        ("wrong_feedback", {"ok": 30, "labelled": 3}, {"ok": 20}, "no feedback with a truth to compare yet"),
        ("complaints", {"ok": 30}, {"ok": 20}, "no complaints yet"),
        ("metrics.sales", {"ok": 30}, {"ok": 20}, "no feedback with metrics.sales to compare yet"),
        ("mirror_disagreement", {"ok": 30}, {"ok": 0}, "no feedback with a truth yet"),
        ("mirror_disagreement", {"ok": 30, "labelled": 3}, {"ok": 0}, "no disagreements with feedback yet"),
    ],
)
def test_comparison_without_evidence_says_what_is_missing(
    metric: str, stable: dict[str, Any], candidate: dict[str, Any], words: str
) -> None:
    versions = [counted(Variant.STABLE, **stable), counted(Variant.CANDIDATE, **candidate)]
    assert (
        verdict_text(
            ComparisonResult(
                name="g", metric=metric, action="stop", share=1, verdict=GuardVerdict.NO_DATA, log_e=0, log_safe=0
            ),
            versions,
        )
        == words
    )


def test_means_that_seem_worse_have_a_forecast() -> None:
    found = ComparisonResult(
        name="g", metric="loss", action="stop", share=1, verdict=GuardVerdict.INCONCLUSIVE, log_e=1, log_safe=0,
        more_units=1200,
    )  # fmt: skip
    assert verdict_text(found, []) == "inconclusive: if it is as it seems, 1,200 outcomes more to act"


@pytest.mark.parametrize("verdict", [verdict for verdict in GuardVerdict if verdict is not GuardVerdict.NO_DATA])
def test_comparison_with_a_verdict_is_worded_by_the_verdict(verdict: GuardVerdict) -> None:
    assert (
        verdict_text(
            ComparisonResult(name="g", metric="failures", action="stop", share=1, verdict=verdict, log_e=0, log_safe=0),
            [],
        )
        == verdict
    )


def test_drift_verdict_is_different_and_pauses_the_ramp() -> None:
    guards = Guards(GuardsSettings.model_validate({"comparisons": [{"name": "drift", "metric": "predicted_class"}]}))
    traffic = Traffic([0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    for _ in range(50):
        classes: ClassCounts = traffic.more(100)
        guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=None, classes=classes), 0)  # type: ignore[arg-type]
    judgement = guards.assess(1)
    (drift,) = (found for found in judgement.results if found.metric == "predicted_class")
    assert drift.verdict == "different"
    assert judgement.pause is drift
    assert judgement.harmful


@pytest.mark.parametrize("outcome", Outcome)
def test_tallied_counts_answered_and_failed_requests_by_outcome(outcome: Outcome) -> None:
    no_fault = {Outcome.OK, Outcome.EXCUSED, Outcome.CRASHED, Outcome.UNAVAILABLE}
    expected = (0, 0) if outcome is Outcome.CLIENT_ERROR else (3, 0 if outcome in no_fault else 3)
    assert request_counts({outcome: 3}) == expected
    assert request_counts({}) == (0, 0)
