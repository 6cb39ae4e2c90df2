"""Feedback statistics: repeats count once, the last statement holds, and memory is bounded."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.control.record_writer import feedback_memory
from gateway.control.record_writer import feedback_stats as ledger_module
from gateway.control.record_writer.feedback_stats import FeedbackStats, Place
from gateway.control.record_writer.outcome_sums import MOST_METRICS, MOST_ROUTES, OTHER_ROUTES, VersionFeedback
from gateway.protocol.classification import NO_CLASS
from gateway.records.carried import one_number, output_mark
from gateway.records.line import line_of
from gateway.records.segments import FEEDBACK, segment_path
from gateway.records.token import CARRIED, Signer, encoded_names
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
    assert ledger.by_version["digits", 2, "candidate"].sums.accuracy == 0.5
    assert ledger.by_version["digits", 1, "stable"].sums.accuracy == 1.0


def test_repeated_feedback_counts_once(ledger: FeedbackStats) -> None:
    line = judged(prediction(1), True, reward=2.5, metrics={"sales": 3.0})
    for _ in range(3):
        ledger.add(line + line)
    counted = credit(ledger)
    assert counted.sums.outcomes == {"wrong": (1, 0.0), "loss": (1, 0.0), "reward": (1, 2.5), "metrics.sales": (1, 3.0)}
    assert counted.sums.routes == {"everyone": counted.sums.outcomes}
    assert counted.received == {"correct": 1, "wrong": 0, "measured": 0, "unknown": 0, "unlabelled": 0}
    assert len(ledger.take_new()) == 1


def test_correction_replaces_the_earlier_feedback_and_adds_no_evidence(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add(judged(one, True, reward=1.0, metrics={"sales": 3.0, "clicks": 1.0}))
    ledger.add(judged(one, False, reward=4.0, metrics={"sales": 5.0}))
    counted = credit(ledger)
    assert (counted.sums.labelled, counted.sums.accuracy, counted.sums.reward_mean) == (1, 0.0, 4.0)
    assert (counted.sums.outcomes["metrics.sales"], counted.sums.outcomes["metrics.clicks"]) == ((1, 5.0), (1, 1.0))
    assert counted.received["correct"] == counted.received["wrong"] == 1, "what is exported as a total never falls"
    ledger.add(judged(one, True))
    assert counted.sums.accuracy == 1.0
    assert [heard.outcomes for heard in ledger.take_new()] == [
        {"wrong": 0.0, "loss": 0.0, "reward": 1.0, "metrics.sales": 3.0, "metrics.clicks": 1.0}
    ]


def test_truth_after_a_reward_is_new_evidence(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add(feedback_line(one, reward=1.0))
    assert credit(ledger).received["unlabelled"] == 1
    ledger.add(judged(one, False, reward=1.0))
    assert credit(ledger).received["wrong"] == 1
    assert [heard.outcomes for heard in ledger.take_new()] == [{"reward": 1.0}, {"wrong": 1.0, "loss": 1.0}]


def test_truth_that_cannot_be_compared_is_counted_as_unknown(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add(judged(one, None))
    ledger.add(judged(one, None))
    assert (credit(ledger).received["unknown"], credit(ledger).sums.accuracy, credit(ledger).sums.labelled) == (
        1,
        None,
        0,
    )
    assert ledger.take_new() == []
    ledger.add(judged(one, True))
    assert credit(ledger).sums.accuracy == 1.0
    assert [heard.outcomes for heard in ledger.take_new()] == [{"wrong": 0.0, "loss": 0.0}]


def test_truth_of_zero_or_false_counts(ledger: FeedbackStats) -> None:
    ledger.add(
        feedback_line(prediction(1), truth=0, correct=False) + feedback_line(prediction(2), truth=False, correct=True)
    )
    assert credit(ledger).sums.labelled == 2


def test_a_reward_of_zero_counts(ledger: FeedbackStats) -> None:
    ledger.add(feedback_line(prediction(1), reward=0.0) + feedback_line(prediction(2), reward=1.0))
    assert credit(ledger).sums.reward_mean == 0.5
    assert credit(ledger).sums.accuracy is None


def test_number_of_metric_names_is_bounded(ledger: FeedbackStats) -> None:
    ledger.add(
        b"".join(feedback_line(prediction(n), metrics={f"m{n}": 1.0, "m0": 1.0}) for n in range(2 * MOST_METRICS))
    )
    assert len(credit(ledger).sums.outcomes) == MOST_METRICS
    assert credit(ledger).sums.outcomes["metrics.m0"] == (2 * MOST_METRICS, 2.0 * MOST_METRICS)


def test_outcomes_that_guards_name_are_counted_whatever_came_first(ledger: FeedbackStats) -> None:
    ledger.add(b"".join(feedback_line(prediction(n), metrics={f"m{n}": 1.0}) for n in range(MOST_METRICS)))
    ledger.keep_named({"digits": {"metrics.revenue"}})
    outcomes = {"metrics.revenue": 7.0, "metrics.other": 7.0, **{f"output-{n}.loss": 1.0 for n in range(100)}}
    ledger.add(feedback_line(prediction(1000), truth=1, outcomes=outcomes))
    assert set(outcomes) - set(credit(ledger).sums.outcomes) == {"metrics.other"}
    assert credit(ledger).received_of("metrics.revenue").total == 7.0


def test_number_of_routes_is_bounded(ledger: FeedbackStats) -> None:
    for number in range(MOST_ROUTES + 5):
        token = SIGNER.token(encoded_names("digits", f"route-{number}"), DECISION, number, 3, False).decode()
        ledger.add(judged(token, True))
    assert len(credit(ledger).sums.routes) == MOST_ROUTES + 1
    assert credit(ledger).sums.routes["route-3"]["wrong"] == (1, 0.0)
    assert credit(ledger).sums.routes[OTHER_ROUTES]["wrong"] == (5, 0.0)
    assert credit(ledger).sums.labelled == MOST_ROUTES + 5


def test_number_of_versions_is_bounded(ledger: FeedbackStats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MOST_VERSIONS", 2)
    for version in (1, 2, 1, 3):
        decision = replace(DECISION, version=version)
        ledger.add(judged(prediction(len(ledger.take_new()) + version * 10, decision), True))
    assert [version for _, version, _ in ledger.by_version] == [1, 3]


REGRESSION = {"loss": 2.0, "squared_error": 4.0, "error": -2.0}


def test_correction_of_what_was_counted_in_dropped_sums_counts_as_new(
    ledger: FeedbackStats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "MOST_VERSIONS", 1)
    one = prediction(1)
    ledger.add(judged(one, True, reward=5.0, truth_class=3))
    ledger.add(judged(prediction(2, replace(DECISION, version=7)), True))
    ledger.add(judged(one, False, reward=4.0, truth_class=5))
    sums = credit(ledger).sums
    assert sums.outcomes == {"wrong": (1, 1.0), "loss": (1, 1.0), "reward": (1, 4.0)}
    assert sums.classes == {3: (0, 0), 5: (0, 1)}


def test_outcomes_in_a_line_are_summed_whatever_their_kind(ledger: FeedbackStats) -> None:
    ledger.add(feedback_line(prediction(1), truth=7.0, outcomes=REGRESSION, reward=9.0))
    ledger.add(feedback_line(prediction(2), truth=7.0, outcomes={"loss": 1.0, "squared_error": 1.0, "error": 1.0}))
    assert credit(ledger).sums.outcomes == {"loss": (2, 3.0), "squared_error": (2, 5.0), "error": (2, -1.0)}
    assert credit(ledger).received["measured"] == 2
    assert (credit(ledger).sums.labelled, credit(ledger).sums.accuracy) == (0, None)
    assert next(heard.outcomes for heard in ledger.take_new()) == REGRESSION


@pytest.mark.parametrize(("error", "counted"), [(3e6, 3e6), (5e12, 1e12)])
def test_largest_errors_are_counted(ledger: FeedbackStats, error: float, counted: float) -> None:
    outcomes = {"age.loss": error, "age.squared_error": error * error, "age.error": -error}
    ledger.add(feedback_line(prediction(1), truth={"age": 7.0}, outcomes=outcomes))
    totals = {name: total for name, (_, total) in credit(ledger).sums.outcomes.items()}
    assert totals == {"age.loss": counted, "age.squared_error": counted**2, "age.error": -counted}
    assert credit(ledger).received["measured"] == 1


def test_correction_of_a_number_replaces_it(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add(feedback_line(one, truth=7.0, outcomes=REGRESSION))
    ledger.add(feedback_line(one, truth=5.0, outcomes={"loss": 0.5, "squared_error": 0.25, "error": 0.5}))
    counted = credit(ledger)
    assert counted.sums.outcomes == {"loss": (1, 0.5), "squared_error": (1, 0.25), "error": (1, 0.5)}
    assert counted.received_of("error") == (2, 0.5, 2.0)
    assert counted.received_sums()["everyone", "loss"] == (2, 2.5, 0.0)
    assert len(ledger.take_new()) == 1


def test_classes_are_counted_by_what_is_true(ledger: FeedbackStats) -> None:
    ids = [prediction(n) for n in range(6)]
    ledger.add(b"".join(judged(one, n < 3, truth_class=n % 2) for n, one in enumerate(ids)))
    assert credit(ledger).sums.classes == {0: (2, 1), 1: (1, 2)}
    ledger.add(judged(ids[0], False, truth_class=1))
    assert credit(ledger).sums.classes == {0: (1, 1), 1: (1, 3)}
    assert credit(ledger).received_classes == {0: (2, 1), 1: (1, 3)}, "it never falls"
    assert credit(ledger).sums.classes[1].recall == 0.25


def test_rows_of_a_request_are_one_outcome_and_several_truths(ledger: FeedbackStats) -> None:
    rows = {"truth": [1, 2, None, 2], "truth_class": [1, 2, None, 2], "correct": [True, True, None, False]}
    ledger.add(feedback_line(prediction(1), **rows, outcomes={"wrong": 1 / 3, "loss": 1 / 3}))
    assert credit(ledger).sums.outcomes["wrong"] == (1, 1 / 3)
    assert credit(ledger).sums.classes == {1: (1, 0), 2: (1, 1)}
    assert credit(ledger).received["wrong"] == 1


def test_rows_judged_one_by_one_are_averaged(ledger: FeedbackStats) -> None:
    one, heard = prediction(1), []
    ledger.add(feedback_line(one, reward=0.5))
    for row, wrong in enumerate((1.0, 0.0, 1.0, 0.0)):
        said = {"truth": 5, "truth_class": 5, "correct": not wrong, "outcomes": {"wrong": wrong, "loss": wrong}}
        ledger.add(feedback_line(one, row=row, **said) * 2)
        heard += ledger.take_new()
    assert credit(ledger).sums.outcomes == {"reward": (1, 0.5), "wrong": (1, 0.5), "loss": (1, 0.5)}
    assert credit(ledger).sums.classes == {5: (2, 2)}
    assert [item.outcomes for item in heard] == [{"reward": 0.5}, {"wrong": 1.0, "loss": 1.0}], "one a prediction"
    assert credit(ledger).received_of("wrong") == (4, 2.0, 0.0)
    corrected = {"truth": 4, "truth_class": 4, "correct": True, "outcomes": {"wrong": 0.0, "loss": 0.0}}
    ledger.add(feedback_line(one, row=0, **corrected))
    assert credit(ledger).sums.outcomes["wrong"] == (1, 0.25)
    assert credit(ledger).sums.classes == {5: (2, 1), 4: (1, 0)}
    ledger.add(feedback_line(one, truth=[5] * 4, outcomes={"wrong": 1.0, "loss": 1.0}))
    assert credit(ledger).sums.outcomes["wrong"] == (1, 1.0), "the whole request replaces its rows"
    ledger.add(feedback_line(one, row=1, **corrected))
    assert credit(ledger).sums.outcomes["wrong"] == (1, 1.0)


def by_class(one: str, *truths: tuple[int, bool], **fields: Any) -> bytes:
    """A line that judges these rows, true class and whether it was predicted, together."""
    classes, correct = [index for index, _ in truths], [right for _, right in truths]
    wrong = 1 - sum(correct) / len(correct)
    shown = {"truth_class": classes, "correct": correct} if len(truths) > 1 else {
        "truth_class": classes[0], "correct": correct[0]
    }  # fmt: skip
    return feedback_line(one, truth=classes, outcomes={"wrong": wrong, "loss": wrong}, **shown, **fields)


def test_only_true_classes_that_were_counted_are_taken_back(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add(by_class(one, (5, True), row=0))
    ledger.add(by_class(one, (5, True), (6, False)))
    ledger.add(by_class(one, (4, True), (7, False)))
    assert credit(ledger).sums.classes == {5: (1, 0)}
    many = prediction(2)
    ledger.add(by_class(many, *((index, True) for index in range(10, 20))))
    for truth in (20, 21):
        ledger.add(by_class(many, (truth, True), (truth, True)))
    assert min(min(counts) for counts in credit(ledger).sums.classes.values()) == 0
    assert sum(sum(counts) for counts in credit(ledger).sums.classes.values()) == 11


def test_true_classes_of_a_version_that_was_forgotten_are_not_taken_back(
    ledger: FeedbackStats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "MOST_VERSIONS", 1)
    one, other = prediction(1), prediction(2, replace(DECISION, version=1))
    ledger.add(by_class(one, (5, True)) + by_class(other, (5, True)) + by_class(one, (6, True)))
    assert credit(ledger).sums.classes == {5: (0, 0), 6: (1, 0)}


def test_row_of_a_request_that_was_judged_as_a_whole_counts_no_more(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add(by_class(one, (5, True), (6, False)))
    ledger.add(by_class(one, (6, True), row=1, reward=0.5) * 2)
    counted = credit(ledger)
    assert counted.sums.outcomes["wrong"] == (1, 0.5)
    assert counted.sums.classes == {5: (1, 0), 6: (0, 1)}
    assert (counted.received["correct"], counted.received["wrong"]) == (0, 1)
    ledger.add(by_class(one, (5, True), (6, True)))
    assert counted.sums.outcomes["wrong"] == (1, 0.0)
    assert counted.sums.classes == {5: (1, 0), 6: (1, 0)}


def test_rows_push_no_predictions_out_of_memory(ledger: FeedbackStats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_memory, "MAX_REMEMBERED", 10)
    first, long = judged(prediction(1), True), prediction(2)
    rows = [by_class(long, (5, True), row=row) for row in range(30)]
    ledger.add(first + b"".join(rows) + first)
    assert credit(ledger).sums.labelled == 2


def test_prediction_id_of_successive_lines_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    class Counting(Signer):
        def read(self, text: object) -> Any:
            read.append(text)
            return super().read(text)

    one, other = prediction(1), prediction(2)
    FeedbackStats(Counting([(0, bytes(32))])).add(
        b"".join(by_class(one, (5, True), row=row) for row in range(9)) + judged(other, True)
    )
    assert read == [one, other]


def test_many_true_classes_of_a_request_are_counted_once(ledger: FeedbackStats) -> None:
    one, classes = prediction(1), list(range(100))
    rows = {"truth": classes, "truth_class": classes, "correct": [True] * 100}
    ledger.add(feedback_line(one, **rows, outcomes={"wrong": 0.0, "loss": 0.0}))
    assert len(credit(ledger).sums.classes) == 64
    assert credit(ledger).sums.classes[63] == (37, 0)
    ledger.add(feedback_line(one, **rows | {"correct": [False] * 100}, outcomes={"wrong": 1.0, "loss": 1.0}))
    assert credit(ledger).sums.outcomes["wrong"] == (1, 1.0)
    assert credit(ledger).sums.classes[63] == (37, 0), "a correction of so many is not taken apart"


def test_foreign_torn_and_malformed_lines_are_skipped(ledger: FeedbackStats) -> None:
    foreign = Signer([(0, bytes(31) + b"x")]).token(encoded_names("digits", "everyone"), DECISION, 1, 3, False).decode()
    ledger.add(
        b'{"half\n' + b"\n" + b"7\n" + b'{"prediction_id":7}\n' + judged(foreign, True) + judged(prediction(1), True)
    )
    assert credit(ledger).sums.labelled == 1


@pytest.mark.parametrize("metrics", [7, [1.0], "sales"])
def test_line_with_odd_metrics_is_counted_without_them(ledger: FeedbackStats, metrics: Any) -> None:
    ledger.add(judged(prediction(1), True, metrics=metrics))
    assert set(credit(ledger).sums.outcomes) == {"wrong", "loss"}


def test_take_returns_feedback_in_order_and_once(ledger: FeedbackStats) -> None:
    ledger.add(b"".join(judged(prediction(n), n % 2 == 0) for n in range(10)))
    assert [heard.token.nonce for heard in ledger.take_new()] == list(range(10))
    assert ledger.take_new() == []


def test_untaken_feedback_is_bounded_but_still_counted(ledger: FeedbackStats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_BUFFERED", 100)
    small = FeedbackStats(SIGNER)
    small.add(b"".join(judged(prediction(n), True) for n in range(150)))
    assert [heard.token.nonce for heard in small.take_new()] == list(range(50, 150))
    assert credit(small).sums.labelled == 150


def test_memory_is_bounded_by_forgetting_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_memory, "MAX_REMEMBERED", 1000)
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
    assert credit(ledger).sums.labelled == 3000
    ledger.add(lines[2999] + lines[2500])
    assert credit(ledger).sums.labelled == 3000, "these are known still"
    ledger.add(lines[0])
    assert credit(ledger).sums.labelled == 3001, "this one was forgotten"


@pytest.mark.parametrize("row", [None, 0])
def test_memory_of_ever_new_metrics_is_bounded(monkeypatch: pytest.MonkeyPatch, row: int | None) -> None:
    monkeypatch.setattr(feedback_memory, "MAX_OUTCOMES", 3200)
    ledger, known = FeedbackStats(SIGNER), prediction(1)

    def lines(count: int, begin: int) -> bytes:
        return b"".join(
            feedback_line(prediction(n), row=row, metrics={f"{'m' * 80}{n}-{place}": 0.5 for place in range(32)})
            for n in range(begin, begin + count)
        )

    ledger.add(lines(1500, 10))  # fills what is shared
    ledger.take_new()
    tracemalloc.start()
    try:
        ledger.add(lines(1000, 5000))
        ledger.take_new()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000, "of 5 million bytes"
    ledger.add(judged(known, True) * 2)
    assert credit(ledger).sums.labelled == 1, "it is remembered like others"


def recorded(folder: Path, *segments: bytes) -> Path:
    for number, lines in enumerate(segments, 1):
        segment_path(folder, FEEDBACK, number, open=number == len(segments)).write_bytes(lines)
    return folder


def test_feedback_of_a_former_run_is_counted_once_and_is_no_new_evidence(tmp_path: Path) -> None:
    first, second = judged(prediction(1), True, reward=1.0), judged(prediction(2), False)
    ledger = FeedbackStats(SIGNER)
    end = ledger.load(recorded(tmp_path, first, second + b'{"kind":"feedback","predi'))
    assert end == Place(2, len(second))
    assert credit(ledger).sums.outcomes == {"wrong": (2, 1.0), "loss": (2, 1.0), "reward": (1, 1.0)}
    ledger.add(first + second)
    assert credit(ledger).sums.labelled == 2
    assert ledger.take_new() == []
    ledger.add(judged(prediction(3), True))
    assert credit(ledger).sums.labelled == 3
    assert len(ledger.take_new()) == 1


def test_feedback_that_a_former_run_may_not_have_counted_is_asked_for_once(tmp_path: Path) -> None:
    ids = [prediction(number) for number in range(4)]

    def line(number: int, time_s: int, **fields: Any) -> bytes:
        return judged(ids[number], True, time_ns=time_s * 10**9, model="digits", **fields)

    ledger = FeedbackStats(SIGNER)
    old, more, corrected = line(1, 10), line(2, 90, reward=3.0), line(2, 91, reward=4.0)
    other = judged(prediction(4), True, time_ns=95 * 10**9, model="other")
    folder = recorded(tmp_path, old + line(2, 85), line(3, 80) + more + more + corrected + other)
    ledger.load(folder, Place(2, 10**6))
    found = [*ledger.take_unheard({"digits": 84 * 10**9, "other": 0})]
    assert [(one.token.nonce, one.time_ns // 10**9, one.outcomes) for one in found] == [
        (2, 85, {"wrong": 0.0, "loss": 0.0}),
        (2, 90, {"reward": 3.0}),
    ]
    assert [*ledger.take_unheard({"digits": 1})] == [] == ledger.take_new()
    ledger.load(folder)
    assert not [*ledger.take_unheard({"digits": 1})], "it is all known"
    again = FeedbackStats(SIGNER)
    again.load(folder)
    assert [one.time_ns // 10**9 for one in again.take_unheard({"digits": 1})] == [85, 80, 90], "the last minute"


def test_feedback_that_is_counted_already_is_only_recognised(tmp_path: Path) -> None:
    first, second, third = (judged(prediction(number), True) for number in range(3))
    ledger = FeedbackStats(SIGNER)
    ledger.load(recorded(tmp_path, first, second + third), Place(2, len(second)))
    assert credit(ledger).sums.labelled == 1, "the third"
    ledger.add(first + second + third)
    assert credit(ledger).sums.labelled == 1


def test_correction_of_feedback_of_a_former_run_replaces_it(tmp_path: Path) -> None:
    ledger, one = FeedbackStats(SIGNER), prediction(1)
    ledger.load(recorded(tmp_path, judged(one, True, reward=1.0)))
    ledger.add(judged(one, False, reward=3.0))
    counted = credit(ledger)
    assert counted.sums.outcomes == {"wrong": (1, 1.0), "loss": (1, 1.0), "reward": (1, 3.0)}
    ledger.add(judged(one, True, reward=2.0))
    assert counted.sums.outcomes == {"wrong": (1, 0.0), "loss": (1, 0.0), "reward": (1, 2.0)}
    assert ledger.take_new() == [], "its first word was evidence in the former run"


def test_remember_reads_only_the_newest_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_memory, "MAX_REMEMBERED", 3)
    lines = [judged(prediction(n), True) for n in range(6)]
    folder = recorded(tmp_path, lines[0], lines[1] + lines[2], lines[3] + lines[4] + lines[5])
    segment_path(folder, FEEDBACK, 1, open=False).unlink()
    segment_path(folder, FEEDBACK, 1, open=False).mkdir()  # to read it would be an error
    ledger = FeedbackStats(SIGNER)
    ledger.load(folder)
    ledger.add(b"".join(lines[3:]))
    assert credit(ledger).sums.labelled == 3


def test_feedback_that_is_left_uncounted_at_the_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feedback_memory, "MAX_REMEMBERED", 2)
    lines = [judged(prediction(n), True) for n in range(5)]
    folder = recorded(tmp_path, lines[0], lines[1], lines[2], lines[3] + lines[4])
    FeedbackStats(SIGNER).load(folder, Place(3, len(lines[2])))
    FeedbackStats(SIGNER).load(folder)
    assert caplog.text == ""
    FeedbackStats(SIGNER).load(folder, Place(1, len(lines[0])))
    gap = [segment_path(folder, FEEDBACK, number, open=False).name for number in (2, 3)]
    assert f"lack {gap[0]} to {gap[1]}" in caplog.text


def test_remember_tolerates_an_unreadable_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = FeedbackStats(SIGNER)
    ledger.load(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"")
    ledger.load(tmp_path / "file")
    segment_path(tmp_path, FEEDBACK, 1, open=False).mkdir()
    ledger.load(tmp_path)
    assert "statistics start without it" in caplog.text


def mirrored(prediction_id: str, agreement: bool | None, predicted: float | None) -> bytes:
    return line_of(
        {"kind": "mirror", "prediction_id": prediction_id, "agreement": agreement, "predicted": predicted, "time_ns": 1}
    )


def test_mirrored_prediction_is_judged_by_the_truth(ledger: FeedbackStats) -> None:
    ids = [prediction(n) for n in range(4)]
    ledger.add_mirrors(
        mirrored(ids[0], False, 5) + mirrored(ids[1], False, 3) + mirrored(ids[2], True, 3) + mirrored(ids[3], None, 3)
    )
    ledger.add(b"".join(judged(one, False, truth_class=5) for one in ids))
    said = [(False, True), (True, True), None, None]
    assert [heard.mirrored for heard in ledger.take_new()] == said


def number_predicted(number: int, value: float) -> str:
    names = encoded_names("digits", "everyone") + CARRIED + one_number(value, output_mark("y"))
    return SIGNER.token(names, DECISION, number, NO_CLASS, False).decode()


@pytest.mark.parametrize(
    ("stable", "candidate", "truth", "said"),
    [
        (10.0, 12.0, 11.5, (False, True)),
        (10.0, 12.0, 10.5, (True, False)),
        (10.0, 12.0, 11.0, (False, False)),
        (10.0, 9.0, 12, (True, False)),
        (10.0, 1e300, 0.0, (True, False)),
    ],
)
@pytest.mark.parametrize("form", [lambda truth: truth, lambda truth: [truth], lambda truth: {"y": truth}])
def test_mirrored_number_is_compared_by_its_distance_from_the_truth(
    ledger: FeedbackStats, stable: float, candidate: float, truth: float, said: tuple[bool, bool], form: Any
) -> None:
    one, agreeing = number_predicted(1, stable), number_predicted(2, stable)
    ledger.add_mirrors(mirrored(one, False, candidate) + mirrored(agreeing, True, candidate))
    outcomes = {"loss": abs(stable - truth), "error": stable - truth}
    ledger.add(b"".join(feedback_line(each, truth=form(truth), outcomes=outcomes) for each in (one, agreeing)))
    assert [heard.mirrored for heard in ledger.take_new()] == [said, None]


def test_mirrored_class_is_judged_by_a_list_of_one_truth(ledger: FeedbackStats) -> None:
    one = prediction(1)
    ledger.add_mirrors(mirrored(one, False, 5))
    ledger.add(judged(one, False, truth_class=[5]))
    assert [heard.mirrored for heard in ledger.take_new()] == [(False, True)]


def test_complaints_are_predictions_whatever_number_says_so(ledger: FeedbackStats) -> None:
    one, two = prediction(1), prediction(2)
    for complaint in (1e6, -3.0, 0.0, 5.0):
        ledger.add(feedback_line(one, metrics={"complaint": complaint}))
    ledger.add(feedback_line(two, metrics={"complaint": 0.0}))
    assert credit(ledger).complaints == 2, "it was taken back, and made again"


def test_lines_that_would_be_forgotten_at_once_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_memory, "MAX_REMEMBERED", 2)
    lines = [judged(prediction(n), True) for n in range(5)]
    ledger = FeedbackStats(SIGNER)
    end = ledger.load(recorded(tmp_path, b"".join(lines)), Place(1, len(b"".join(lines[:4]))))
    assert credit(ledger).sums.labelled == 1, "the last, which was not counted yet"
    assert end == Place(1, len(b"".join(lines)))
    ledger.add(lines[3] + lines[4])
    assert credit(ledger).sums.labelled == 1
    ledger.add(lines[2])
    assert credit(ledger).sums.labelled == 2, "it was forgotten"
