"""Sliding windows over counters: rates, quantiles, and metrics without data."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.guards.window import FeedbackCounts, MetricWindow, Reading, Sample, quantile_ms
from gateway.errors import Outcome
from gateway.settings.metric_names import METRICS
from gateway.shm.scoreboard import Scoreboard
from gateway.shm.tally import Tally


class Release:
    """Two versions with real counters, and a window over them."""

    def __init__(self, *windows_s: float) -> None:
        self.stable, self.candidate = Tally(), Tally()
        self.window = MetricWindow(windows_s or (10.0,))

    def answer(self, variant: str, count: int, ms: float = 1.0) -> None:
        for _ in range(count):
            getattr(self, variant).success(variant, round(ms * 1e6), 0)

    def fail(self, count: int, outcome: Outcome = Outcome.MODEL_ERROR) -> None:
        for _ in range(count):
            self.candidate.failure("candidate", outcome, 1_000_000)

    def sample(self, now_s: float, **rest: object) -> None:
        self.window.sample(now_s, Sample(self.stable.read(), self.candidate.read(), **rest))  # type: ignore[arg-type]


def test_error_rate_covers_only_the_window() -> None:
    release = Release()
    release.answer("candidate", 1000)
    for tick in range(400):
        release.answer("candidate", 9)
        release.fail(1 if tick < 200 else 3)
        release.sample(tick * 0.1)
    assert release.window.read("candidate.error_rate", 10.0) == Reading(0.25, pytest.approx(1200, rel=0.05))
    assert release.window.read("candidate.requests_per_s", 10.0).value == pytest.approx(120)
    assert release.window.read("stable.error_rate", 10.0) == Reading(None, 0)


def test_counts_before_the_start_of_the_window_are_ignored() -> None:
    release = Release()
    release.sample(0.0)
    release.fail(50)
    release.sample(1.0)
    release.answer("candidate", 10)
    release.sample(2.0)
    assert release.window.read("candidate.error_rate", 10.0).value == 50 / 60
    assert release.window.read("candidate.error_rate", 10.0, since_s=1.0) == Reading(0.0, 10)
    assert release.window.read("candidate.error_rate", 10.0, since_s=2.5) == Reading(None, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_unknown_without_data_and_known_with_it(metric: str) -> None:
    release = Release()
    assert release.window.read(metric, 10.0) == Reading(None, 0)
    release.sample(0.0)
    assert release.window.read(metric, 10.0).value == (0 if metric.startswith("gateway") else None)
    for variant in ("stable", "candidate"):
        release.answer(variant, 3)
    release.candidate.mirrored("agree")
    counts = FeedbackCounts(labelled=4, correct=3, rewarded=2, reward_sum=1.0)
    release.sample(1.0, stable_feedback=counts, candidate_feedback=counts)
    assert release.window.read(metric, 10.0).value is not None


def test_client_errors_and_rescues_after_a_stop_are_not_failures() -> None:
    release = Release()
    release.sample(0.0)
    release.answer("candidate", 8)
    release.fail(5, Outcome.CLIENT_ERROR)
    release.fail(1, Outcome.TIMEOUT)
    release.fail(1, Outcome.OVERLOADED)
    for reason in ("stopped", "stopped", "timeout", "overloaded"):
        release.candidate.rescue(reason)
    release.sample(1.0)
    assert release.window.read("candidate.error_rate", 10.0) == Reading(0.2, 10)
    assert release.window.read("candidate.rescue_rate", 10.0) == Reading(0.2, 10)


def test_accuracy_and_reward_cover_only_the_window() -> None:
    release = Release()
    release.sample(0.0, candidate_feedback=FeedbackCounts(100, 100, 100, 100.0))
    release.sample(1.0, candidate_feedback=FeedbackCounts(110, 106, 104, 103.0))
    assert release.window.read("candidate.accuracy", 10.0) == Reading(0.6, 10)
    assert release.window.read("candidate.reward_mean", 10.0) == Reading(0.75, 4)


def test_disagreement_is_the_share_of_mirrored_requests_that_were_compared() -> None:
    release = Release()
    for result in ("disagree", "agree"):
        release.candidate.mirrored(result)
    release.sample(0.0)
    for result in ("agree", "agree", "agree", "disagree", "failed", "dropped"):
        release.candidate.mirrored(result)
    release.sample(1.0)
    assert release.window.read("candidate.mirror_disagreement", 10.0) == Reading(0.25, 4)


def test_complaints_are_counted_by_request() -> None:
    release = Release()
    release.sample(0.0, candidate_feedback=FeedbackCounts(outcomes={"complaints": (0, 5.0)}))
    release.answer("candidate", 40)
    release.sample(1.0, candidate_feedback=FeedbackCounts(outcomes={"complaints": (0, 7.0)}))
    assert release.window.read("candidate.complaint_rate", 10.0) == Reading(0.05, 40)
    assert release.window.read("stable.complaint_rate", 10.0) == Reading(None, 0)


def test_gauge_is_averaged_over_the_window() -> None:
    release = Release()
    for tick in range(100):
        release.sample(float(tick), inflight=10 if tick < 95 else 20, queue_depth=1)
    assert release.window.read("gateway.inflight", 10.0).value == pytest.approx(15, abs=1)
    assert release.window.read("gateway.queue_depth", 10.0).value == 1


def test_windows_of_different_lengths_are_independent() -> None:
    release = Release(1.0, 60.0)
    for tick in range(1200):
        if tick < 600:
            release.fail(1)
        release.answer("candidate", 1)
        release.sample(tick * 0.05)
    assert release.window.read("candidate.error_rate", 1.0).value == 0
    assert release.window.read("candidate.error_rate", 60.0).value == pytest.approx(1 / 3, rel=0.01)


def test_changed_windows_keep_the_history_of_those_that_remain() -> None:
    release = Release(10.0, 20.0)
    release.sample(0.0)
    release.fail(10)
    release.sample(1.0)
    release.window.keep_windows((10.0, 30.0))
    assert release.window.read("candidate.error_rate", 10.0) == Reading(1.0, 10)
    assert release.window.read("candidate.error_rate", 30.0) == Reading(None, 0)
    release.sample(2.0)
    release.fail(5)
    release.sample(3.0)
    assert release.window.read("candidate.error_rate", 30.0) == Reading(1.0, 5)


def test_long_window_keeps_no_more_samples_than_a_short_one() -> None:
    release = Release(1.0, 86_400.0)
    for second in range(0, 100_000, 10):
        release.sample(float(second))
    assert all(len(past) <= 63 for past in release.window._samples.values())


def test_replaced_worker_does_not_lower_the_rates(tmp_path: Path) -> None:
    board = Scoreboard.create(tmp_path / "board", 2)
    window = MetricWindow((10.0,))
    rates = []
    for tick in range(20):
        for worker in (0, 1):  # attached anew each time, as by a process that has taken a dead one's place
            tally = Scoreboard.attach(tmp_path / "board", 2).tally(worker, 1)
            tally.success("candidate", 1_000_000, 0)
        window.sample(float(tick), Sample(board.totals(0), board.totals(1)))
        rates.append(window.read("candidate.requests_per_s", 10.0).value)
    assert rates[1:] == [2.0] * 19
    assert window.read("candidate.latency_p50_ms", 10.0) == Reading(pytest.approx(1.0, rel=0.05), 20)


@given(
    st.lists(st.floats(math.log(20e3), math.log(60e9)), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.95, 0.99]),
)
def test_quantile_is_within_five_percent(logs: list[float], share: float) -> None:
    durations = sorted(round(math.exp(log)) for log in logs)
    tally = Tally()
    for ns in durations:
        tally.success("stable", ns, 0)
    exact_ms = durations[max(1, math.ceil(share * len(durations))) - 1] / 1e6
    found = quantile_ms(tally.read().latency_counts("stable"), share)
    assert found == pytest.approx(exact_ms, rel=0.05)


def test_merged_histograms_equal_a_single_one(tmp_path: Path) -> None:
    board = Scoreboard.create(tmp_path / "board", 3)
    alone = Tally()
    generator = random.Random(1)
    for _ in range(3000):
        ns = round(generator.lognormvariate(15, 1))
        alone.success("candidate", ns, 0)
        board.tally(generator.randrange(3), 0).success("candidate", ns, 0)
    merged = board.totals(0).latency_counts("candidate")
    assert np.array_equal(merged, alone.read().latency_counts("candidate"))
    assert [quantile_ms(merged, share) for share in (0.5, 0.99)] == _quantiles(alone, (0.5, 0.99))


def _quantiles(tally: Tally, shares: Sequence[float]) -> list[float | None]:
    return [quantile_ms(tally.read().latency_counts("candidate"), share) for share in shares]


def test_mean_of_an_outcome_covers_only_the_window_and_what_was_sampled() -> None:
    release = Release()
    release.sample(0.0)
    for now_s, counts in ((1.0, (100, 5.0)), (2.0, (300, 45.0))):
        release.sample(now_s, candidate_feedback=FeedbackCounts(outcomes={"metrics.sales": counts}))
    read = release.window.read
    assert read("candidate.metrics.sales", 10.0) == Reading(None, 0), "it was not sampled when the window began"
    assert read("candidate.metrics.sales", 10.0, since_s=0.5) == Reading(0.2, 200)
    assert read("stable.metrics.sales", 10.0, since_s=0.5) == Reading(None, 0)
