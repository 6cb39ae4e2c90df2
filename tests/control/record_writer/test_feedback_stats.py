"""Feedback statistics: repeats count once, the last statement holds, and memory is bounded."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.control.record_writer import feedback_stats as ledger_module
from gateway.control.record_writer.feedback_stats import MOST_METRICS, FeedbackStats, VersionFeedback
from gateway.records.line import line_of
from gateway.records.segments import FEEDBACK, segment_path
from gateway.records.token import Signer, encoded_names
from gateway.routing.release import Decision, Variant

SIGNER = Signer([(0, bytes(32))])
DECISION = Decision(2, Variant.CANDIDATE, "everyone", 123_456, 50_000, 0.05)


@pytest.fixture
def ledger() -> FeedbackStats:
    return FeedbackStats(SIGNER)


def prediction(number: int, decision: Decision = DECISION) -> str:
    return SIGNER.token(encoded_names("digits", "everyone"), decision, number, 3, False).decode()


def feedback_line(prediction_id: str, **fields: Any) -> bytes:
    record = {"kind": "feedback", "prediction_id": prediction_id, "time_ns": 17, "truth": None, "correct": None}
    return line_of({**record, "reward": None, "metrics": None, **fields})


def judged(prediction_id: str, correct: bool | None, **fields: Any) -> bytes:
    return feedback_line(prediction_id, truth=3 if correct else 5, correct=correct, **fields)


def credit(ledger: FeedbackStats) -> VersionFeedback:
    (found,) = ledger.by_version.values()
    return found


def test_each_version_and_variant_is_counted_separately(ledger: FeedbackStats) -> None:
    stable = replace(DECISION, version=1, variant=Variant.STABLE)
    ledger.add(judged(prediction(1), True) + judged(prediction(2), False) + judged(prediction(3, stable), True))
    assert ledger.by_version["digits", 2, "candidate"].accuracy == 0.5
    assert ledger.by_version["digits", 1, "stable"].accuracy == 1.0


def test_repeated_feedback_counts_once(ledger: FeedbackStats) -> None:
    line = judged(prediction(1), True, reward=2.5, metrics={"sales": 3.0})
    for _ in range(3):
        ledger.add(line + line)
    counted = credit(ledger)
    assert (counted.labelled, counted.correct, counted.rewards, counted.reward_sum) == (1, 1, 1, 2.5)
    assert counted.metrics == {"sales": (1, 3.0)}
    assert counted.received == {"correct": 1, "wrong": 0, "unknown": 0, "unlabelled": 0}
    assert len(ledger.take_new()) == 1


def test_correction_replaces_the_earlier_feedback_and_adds_no_evidence(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add(judged(one, True, reward=1.0, metrics={"sales": 3.0, "clicks": 1.0}))
    ledger.add(judged(one, False, reward=4.0, metrics={"sales": 5.0}))
    counted = credit(ledger)
    assert (counted.correct, counted.wrong, counted.accuracy) == (0, 1, 0.0)
    assert (counted.rewards, counted.reward_mean) == (1, 4.0)
    assert counted.metrics == {"sales": (1, 5.0), "clicks": (1, 1.0)}
    assert counted.received["correct"] == counted.received["wrong"] == 1, "what is exported as a total never falls"
    ledger.add(judged(one, True))
    assert counted.accuracy == 1.0
    assert [(heard.wrong, heard.reward) for heard in ledger.take_new()] == [(False, 1.0)]


def test_truth_after_a_reward_is_new_evidence(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add(feedback_line(one, reward=1.0))
    assert credit(ledger).received["unlabelled"] == 1
    ledger.add(judged(one, False, reward=1.0))
    assert credit(ledger).received["wrong"] == 1
    assert [(heard.wrong, heard.reward) for heard in ledger.take_new()] == [(None, 1.0), (True, None)]


def test_truth_that_cannot_be_compared_is_counted_as_unknown(ledger: FeedbackStats) -> None:
    ledger.add(judged(prediction(1), None))
    assert (credit(ledger).unknown, credit(ledger).accuracy, credit(ledger).labelled) == (1, None, 0)
    assert ledger.take_new() == []


def test_truth_of_zero_or_false_counts(ledger: FeedbackStats) -> None:
    ledger.add(
        feedback_line(prediction(1), truth=0, correct=False) + feedback_line(prediction(2), truth=False, correct=True)
    )
    assert credit(ledger).labelled == 2


def test_a_reward_of_zero_counts(ledger: FeedbackStats) -> None:
    ledger.add(feedback_line(prediction(1), reward=0.0) + feedback_line(prediction(2), reward=1.0))
    assert credit(ledger).reward_mean == 0.5
    assert credit(ledger).accuracy is None


def test_number_of_metric_names_is_bounded(ledger: FeedbackStats) -> None:
    ledger.add(
        b"".join(feedback_line(prediction(n), metrics={f"m{n}": 1.0, "m0": 1.0}) for n in range(2 * MOST_METRICS))
    )
    assert len(credit(ledger).metrics) == MOST_METRICS
    assert credit(ledger).metrics["m0"] == (2 * MOST_METRICS, 2.0 * MOST_METRICS)


def test_foreign_torn_and_malformed_lines_are_skipped(ledger: FeedbackStats) -> None:
    foreign = Signer([(0, bytes(31) + b"x")]).token(encoded_names("digits", "everyone"), DECISION, 1, 3, False).decode()
    ledger.add(
        b'{"half\n' + b"\n" + b"7\n" + b'{"prediction_id":7}\n' + judged(foreign, True) + judged(prediction(1), True)
    )
    assert credit(ledger).labelled == 1


def test_take_returns_feedback_in_order_and_once(ledger: FeedbackStats) -> None:
    ledger.add(b"".join(judged(prediction(n), n % 2 == 0) for n in range(10)))
    assert [heard.token.nonce for heard in ledger.take_new()] == list(range(10))
    assert ledger.take_new() == []


def test_untaken_feedback_is_bounded_but_still_counted(ledger: FeedbackStats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_BUFFERED", 100)
    small = FeedbackStats(SIGNER)
    small.add(b"".join(judged(prediction(n), True) for n in range(150)))
    assert [heard.token.nonce for heard in small.take_new()] == list(range(50, 150))
    assert credit(small).labelled == 150


def test_memory_is_bounded_by_forgetting_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_REMEMBERED", 1000)
    ledger = FeedbackStats(SIGNER)
    lines = [judged(prediction(n), True) for n in range(3000)]
    ledger.add(b"".join(lines[:1000]))
    ledger.take_new()
    tracemalloc.start()
    try:
        for line in lines[1000:]:
            ledger.add(line)
        ledger.take_new()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1000 * 300
    assert credit(ledger).labelled == 3000
    ledger.add(lines[2999] + lines[2500])
    assert credit(ledger).labelled == 3000, "these are known still"
    ledger.add(lines[0])
    assert credit(ledger).labelled == 3001, "this one was forgotten"


def recorded(folder: Path, *segments: bytes) -> Path:
    for number, lines in enumerate(segments, 1):
        segment_path(folder, FEEDBACK, number, open=number == len(segments)).write_bytes(lines)
    return folder


def test_feedback_of_a_former_run_is_recognised_and_not_counted_again(tmp_path: Path) -> None:
    first, second = judged(prediction(1), True, reward=1.0), judged(prediction(2), False)
    ledger = FeedbackStats(SIGNER)
    ledger.load(recorded(tmp_path, first, second + b'{"kind":"feedback","predi'))
    assert ledger.by_version == {} and ledger.take_new() == []
    ledger.add(first + second)
    ledger.add(first)
    assert credit(ledger).labelled == credit(ledger).rewards == 0
    assert ledger.take_new() == []
    ledger.add(judged(prediction(3), True))
    assert credit(ledger).labelled == 1


def test_correction_of_feedback_of_a_former_run_counts_once(tmp_path: Path) -> None:
    ledger, one = FeedbackStats(SIGNER), prediction(1)
    ledger.load(recorded(tmp_path, judged(one, True, reward=1.0)))
    ledger.add(judged(one, False, reward=3.0))
    counted = credit(ledger)
    assert (counted.correct, counted.wrong, counted.rewards, counted.reward_sum) == (0, 1, 1, 3.0)
    ledger.add(judged(one, True, reward=2.0))
    assert (counted.correct, counted.wrong, counted.rewards, counted.reward_sum) == (1, 0, 1, 2.0)
    assert ledger.take_new() == [], "its first word was evidence in the former run"


def test_remember_reads_only_the_newest_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_REMEMBERED", 3)
    lines = [judged(prediction(n), True) for n in range(6)]
    folder = recorded(tmp_path, lines[0], lines[1] + lines[2], lines[3] + lines[4] + lines[5])
    segment_path(folder, FEEDBACK, 1, open=False).unlink()
    segment_path(folder, FEEDBACK, 1, open=False).mkdir()  # to read it would be an error
    ledger = FeedbackStats(SIGNER)
    ledger.load(folder)
    ledger.add(b"".join(lines[3:]))
    assert credit(ledger).labelled == 0


def test_remember_tolerates_an_unreadable_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = FeedbackStats(SIGNER)
    ledger.load(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"")
    ledger.load(tmp_path / "file")
    segment_path(tmp_path, FEEDBACK, 1, open=False).mkdir()
    ledger.load(tmp_path)
    assert "statistics start without it" in caplog.text


def mirrored(prediction_id: str, agreement: bool | None, predicted: int | None) -> bytes:
    return line_of(
        {"kind": "mirror", "prediction_id": prediction_id, "agreement": agreement, "predicted": predicted, "time_ns": 1}
    )


def test_mirrored_prediction_is_judged_by_the_truth(ledger: FeedbackStats) -> None:
    ids = [prediction(n) for n in range(4)]
    ledger.add_mirrors(
        mirrored(ids[0], False, 5) + mirrored(ids[1], False, 3) + mirrored(ids[2], True, 3) + mirrored(ids[3], None, 3)
    )
    ledger.add(b"".join(judged(one, False, truth_class=5) for one in ids))
    assert [heard.mirrored_wrong for heard in ledger.take_new()] == [False, True, None, None]
