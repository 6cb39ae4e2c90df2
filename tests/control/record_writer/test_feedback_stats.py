"""What feedback counts as: once, however often it is sent; what was said last holds; memory is bounded."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.control.record_writer import feedback_stats as ledger_module
from gateway.control.record_writer.feedback_stats import MOST_METRICS, FeedbackStats, VersionFeedback
from gateway.records.line import line_of
from gateway.records.segments import FEEDBACK, segment_path
from gateway.records.token import Signer, names_of
from gateway.routing.release import Decision, Variant

SIGNER = Signer({0: bytes(32)}, 0)
DECISION = Decision(2, Variant.CANDIDATE, "everyone", 123_456, 50_000, 0.05)


@pytest.fixture
def ledger() -> FeedbackStats:
    return FeedbackStats(SIGNER)


def prediction(number: int, decision: Decision = DECISION) -> str:
    return SIGNER.token(names_of("digits", "everyone"), decision, number, 3, False).decode()


def said(prediction_id: str, **fields: Any) -> bytes:
    record = {"kind": "feedback", "prediction_id": prediction_id, "time_ns": 17, "truth": None, "correct": None}
    return line_of({**record, "reward": None, "metrics": None, **fields})


def judged(prediction_id: str, correct: bool | None, **fields: Any) -> bytes:
    return said(prediction_id, truth=3 if correct else 5, correct=correct, **fields)


def credit(ledger: FeedbackStats) -> VersionFeedback:
    (found,) = ledger.credits.values()
    return found


def test_each_version_and_variant_has_its_own_credit(ledger: FeedbackStats) -> None:
    stable = replace(DECISION, version=1, variant=Variant.STABLE)
    ledger.hear(judged(prediction(1), True) + judged(prediction(2), False) + judged(prediction(3, stable), True))
    assert ledger.credits["digits", 2, "candidate"].accuracy == 0.5
    assert ledger.credits["digits", 1, "stable"].accuracy == 1.0


def test_the_same_feedback_twice_counts_once(ledger: FeedbackStats) -> None:
    line = judged(prediction(1), True, reward=2.5, metrics={"sales": 3.0})
    for _ in range(3):
        ledger.hear(line + line)
    counted = credit(ledger)
    assert (counted.labelled, counted.correct, counted.rewards, counted.reward_sum) == (1, 1, 1, 2.5)
    assert counted.metrics == {"sales": (1, 3.0)}
    assert counted.heard == {"correct": 1, "wrong": 0, "unknown": 0, "unlabelled": 0}
    assert len(ledger.take()) == 1


def test_a_correction_moves_the_credit_and_is_no_second_evidence(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.hear(judged(one, True, reward=1.0, metrics={"sales": 3.0, "clicks": 1.0}))
    ledger.hear(judged(one, False, reward=4.0, metrics={"sales": 5.0}))
    counted = credit(ledger)
    assert (counted.correct, counted.wrong, counted.accuracy) == (0, 1, 0.0)
    assert (counted.rewards, counted.reward_mean) == (1, 4.0)
    assert counted.metrics == {"sales": (1, 5.0), "clicks": (1, 1.0)}
    assert counted.heard["correct"] == counted.heard["wrong"] == 1, "what is exported as a total never falls"
    ledger.hear(judged(one, True))
    assert counted.accuracy == 1.0
    assert [(heard.wrong, heard.reward) for heard in ledger.take()] == [(False, 1.0)]


def test_a_truth_that_comes_after_a_reward_is_new(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.hear(said(one, reward=1.0))
    assert credit(ledger).heard["unlabelled"] == 1
    ledger.hear(judged(one, False, reward=1.0))
    assert credit(ledger).heard["wrong"] == 1
    assert [(heard.wrong, heard.reward) for heard in ledger.take()] == [(None, 1.0), (True, None)]


def test_a_truth_that_cannot_be_compared_is_known_and_no_evidence(ledger: FeedbackStats) -> None:
    ledger.hear(judged(prediction(1), None))
    assert (credit(ledger).unknown, credit(ledger).accuracy, credit(ledger).labelled) == (1, None, 0)
    assert ledger.take() == []


def test_a_truth_of_zero_or_false_is_a_truth(ledger: FeedbackStats) -> None:
    ledger.hear(said(prediction(1), truth=0, correct=False) + said(prediction(2), truth=False, correct=True))
    assert credit(ledger).labelled == 2


def test_a_reward_of_zero_counts(ledger: FeedbackStats) -> None:
    ledger.hear(said(prediction(1), reward=0.0) + said(prediction(2), reward=1.0))
    assert credit(ledger).reward_mean == 0.5
    assert credit(ledger).accuracy is None


def test_metric_names_are_bounded(ledger: FeedbackStats) -> None:
    ledger.hear(b"".join(said(prediction(n), metrics={f"m{n}": 1.0, "m0": 1.0}) for n in range(2 * MOST_METRICS)))
    assert len(credit(ledger).metrics) == MOST_METRICS
    assert credit(ledger).metrics["m0"] == (2 * MOST_METRICS, 2.0 * MOST_METRICS)


def test_foreign_torn_and_strange_lines_are_passed_over(ledger: FeedbackStats) -> None:
    foreign = Signer({0: bytes(31) + b"x"}, 0).token(names_of("digits", "everyone"), DECISION, 1, 3, False).decode()
    ledger.hear(
        b'{"half\n' + b"\n" + b"7\n" + b'{"prediction_id":7}\n' + judged(foreign, True) + judged(prediction(1), True)
    )
    assert credit(ledger).labelled == 1


def test_what_is_taken_comes_in_order_and_once(ledger: FeedbackStats) -> None:
    ledger.hear(b"".join(judged(prediction(n), n % 2 == 0) for n in range(10)))
    assert [heard.token.nonce for heard in ledger.take()] == list(range(10))
    assert ledger.take() == []


def test_what_no_one_takes_is_bounded_and_still_counted(ledger: FeedbackStats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "UNREAD", 100)
    small = FeedbackStats(SIGNER)
    small.hear(b"".join(judged(prediction(n), True) for n in range(150)))
    assert [heard.token.nonce for heard in small.take()] == list(range(50, 150))
    assert credit(small).labelled == 150


def test_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "REMEMBERED", 1000)
    ledger = FeedbackStats(SIGNER)
    lines = [judged(prediction(n), True) for n in range(3000)]
    ledger.hear(b"".join(lines[:1000]))
    ledger.take()
    tracemalloc.start()
    try:
        for line in lines[1000:]:
            ledger.hear(line)
        ledger.take()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1000 * 300
    assert credit(ledger).labelled == 3000
    ledger.hear(lines[2999] + lines[2500])
    assert credit(ledger).labelled == 3000, "these are known still"
    ledger.hear(lines[0])
    assert credit(ledger).labelled == 3001, "this one was forgotten"


def recorded(folder: Path, *segments: bytes) -> Path:
    for number, lines in enumerate(segments, 1):
        segment_path(folder, FEEDBACK, number, open=number == len(segments)).write_bytes(lines)
    return folder


def test_feedback_of_a_former_run_is_known_again_and_not_counted(tmp_path: Path) -> None:
    first, second = judged(prediction(1), True, reward=1.0), judged(prediction(2), False)
    ledger = FeedbackStats(SIGNER)
    ledger.remember(recorded(tmp_path, first, second + b'{"kind":"feedback","predi'))
    assert ledger.credits == {} and ledger.take() == []
    ledger.hear(first + second)
    ledger.hear(first)
    assert credit(ledger).labelled == credit(ledger).rewards == 0
    assert ledger.take() == []
    ledger.hear(judged(prediction(3), True))
    assert credit(ledger).labelled == 1


def test_a_correction_of_a_former_run_is_counted_once_and_takes_nothing_away(tmp_path: Path) -> None:
    ledger, one = FeedbackStats(SIGNER), prediction(1)
    ledger.remember(recorded(tmp_path, judged(one, True, reward=1.0)))
    ledger.hear(judged(one, False, reward=3.0))
    counted = credit(ledger)
    assert (counted.correct, counted.wrong, counted.rewards, counted.reward_sum) == (0, 1, 1, 3.0)
    ledger.hear(judged(one, True, reward=2.0))
    assert (counted.correct, counted.wrong, counted.rewards, counted.reward_sum) == (1, 0, 1, 2.0)
    assert ledger.take() == [], "its first word was evidence in the former run"


def test_only_the_newest_segments_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "REMEMBERED", 3)
    lines = [judged(prediction(n), True) for n in range(6)]
    folder = recorded(tmp_path, lines[0], lines[1] + lines[2], lines[3] + lines[4] + lines[5])
    segment_path(folder, FEEDBACK, 1, open=False).unlink()
    segment_path(folder, FEEDBACK, 1, open=False).mkdir()  # to read it would be an error
    ledger = FeedbackStats(SIGNER)
    ledger.remember(folder)
    ledger.hear(b"".join(lines[3:]))
    assert credit(ledger).labelled == 0


def test_a_folder_that_cannot_be_read_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = FeedbackStats(SIGNER)
    ledger.remember(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"")
    ledger.remember(tmp_path / "file")
    segment_path(tmp_path, FEEDBACK, 1, open=False).mkdir()
    ledger.remember(tmp_path)
    assert "statistics start without it" in caplog.text


def mirrored(prediction_id: str, agreement: bool | None, predicted: int | None) -> bytes:
    return line_of(
        {"kind": "mirror", "prediction_id": prediction_id, "agreement": agreement, "predicted": predicted, "time_ns": 1}
    )


def test_what_the_candidate_said_in_a_mirror_is_judged_by_the_truth(ledger: FeedbackStats) -> None:
    ids = [prediction(n) for n in range(4)]
    ledger.hear_mirrors(
        mirrored(ids[0], False, 5) + mirrored(ids[1], False, 3) + mirrored(ids[2], True, 3) + mirrored(ids[3], None, 3)
    )
    ledger.hear(b"".join(judged(one, False, truth_class=5) for one in ids))
    assert [heard.mirrored_wrong for heard in ledger.take()] == [False, True, None, None]
