"""`gateway analyze` says of the same feedback in the same order what `gateway status` does: the same outcomes count."""

from pathlib import Path

import numpy as np
import pytest

from gateway.control.guards.effects import Effects
from gateway.control.guards.observation import FeedbackEvent
from gateway.control.guards.outcomes import Outcomes
from gateway.evidence.effect import Effect
from gateway.offline.analysis.html_report import page
from gateway.offline.analysis.terminal_report import tables
from gateway.offline.analysis.version_text import AS_STATUS
from gateway.records.token import Signer, encoded_names
from gateway.routing.buckets import BUCKETS
from gateway.routing.release import CANDIDATE, STABLE, Decision
from tests.offline.analysis.test_analyzer import analysed
from tests.recording import Recording

SIGNER = Signer([(0, bytes(32))])
NAMES = encoded_names("digits", "everyone")
REQUESTS = 3000
CUSTOMERS = 600
WEIGHTS_PPM = (100_000, 500_000)  # in the first and in the second half
FEEDBACK = (0.9, 0.3)  # for the candidate's predictions, and for stable's


def told(recording: Recording, *, sticky: bool) -> list[FeedbackEvent]:
    """Record predictions of customers, or of none, who share few buckets, with rewards on some; returns those."""
    generator = np.random.default_rng(1)
    buckets, events = generator.integers(0, BUCKETS, CUSTOMERS), []
    for number in range(REQUESTS):
        weight_ppm = WEIGHTS_PPM[number * 2 // REQUESTS]
        bucket = int(generator.choice(buckets))
        candidate = bucket < weight_ppm
        version, variant = (2, CANDIDATE) if candidate else (1, STABLE)
        propensity = (weight_ppm if candidate else BUCKETS - weight_ppm) / BUCKETS
        decision = Decision(version, variant, "everyone", bucket, weight_ppm, propensity, sticky)
        token = SIGNER.token(NAMES, decision, number, -1, False).decode()
        prediction = recording.record(
            prediction_id=token, version=version, variant=variant, bucket=bucket, weight_ppm=weight_ppm,
            propensity=propensity, salt="digits-2",
        )  # fmt: skip
        if generator.random() < FEEDBACK[not candidate]:
            reward = float(generator.normal(0.2 * candidate + bucket / BUCKETS))
            recording.feedback(prediction, reward=reward)
            of = SIGNER.read(token)
            key = of.bucket if of.sticky else None
            events.append(FeedbackEvent(0, of.time_ns, weight_ppm, candidate, key, {"reward": reward}, route=of.route))
    return events


def live(events: list[FeedbackEvent]) -> Effect:
    outcomes, effects = Outcomes(()), Effects(())
    now_ns = events[-1].decided_ns
    effects.add(outcomes.ingest(events, now_ns), now_ns)
    (effect,) = effects.read(outcomes)
    return effect


@pytest.mark.parametrize("sticky", [True, False])
def test_difference_and_interval_are_those_of_the_release_under_way(tmp_path: Path, sticky: bool) -> None:
    recording = Recording()
    events = told(recording, sticky=sticky)
    under_way, analysis = live(events), analysed(recording, tmp_path)
    assert analysis.comparison is not None
    (found,) = analysis.comparison.effects
    units = found.stable.units + found.candidate.units
    assert (found.stable.units, found.candidate.units) == (under_way.stable_units, under_way.candidate_units)
    assert (found.value, found.low, found.high) == pytest.approx((under_way.effect, under_way.low, under_way.high))
    assert found.verdict is under_way.verdict
    assert (CUSTOMERS < units < 2 * CUSTOMERS) if sticky else units == len(events)
    assert f"{AS_STATUS}." in [*tables(analysis)] and AS_STATUS in page(analysis)
