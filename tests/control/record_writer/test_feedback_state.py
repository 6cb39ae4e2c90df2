"""The sums of feedback survive restarts, exactly: kept in a file, with what was recorded after it."""

import queue
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.control.record_writer import feedback_state as state_module
from gateway.control.record_writer.collector import RecordCollector
from gateway.control.record_writer.feedback_state import FILE, FeedbackState
from gateway.control.record_writer.feedback_stats import FeedbackStats, Place
from gateway.control.record_writer.outcome_sums import MOST_METRICS
from gateway.records.segments import FEEDBACK, segment_path
from gateway.routing.release import Variant
from gateway.settings.gateway import RecordsSettings
from gateway.shm.ring import Ring
from tests.control.record_writer.test_feedback_stats import (
    DECISION,
    REGRESSION,
    SIGNER,
    credit,
    feedback_line,
    judged,
    prediction,
)


class Run:
    """A run of control: feedback is recorded and counted, as by the record writer, and saved to `folder`."""

    def __init__(self, folder: Path, time_s: float = 0.0) -> None:
        self.time_s = time_s
        self._records = folder / "records"
        self._records.mkdir(exist_ok=True)
        self.feedback = FeedbackStats(SIGNER)
        self.state = FeedbackState(self.feedback, folder, _write, lambda: self.time_s)

    def record(self, lines: bytes, segment: int = 1) -> None:
        with segment_path(self._records, FEEDBACK, segment, open=True).open("ab") as file:
            file.write(lines)
            end = file.tell()
        self.feedback.add(lines)
        self.state.counted(Place(segment, end))


def _write(path: Path, content: Callable[[], bytes]) -> None:
    path.write_bytes(content())


STABLE = replace(DECISION, version=1, variant=Variant.STABLE)
RIGHT, MISTAKEN, NUMBER = prediction(1), prediction(2, STABLE), prediction(3)
LINES = [
    judged(RIGHT, True, truth_class=3, reward=1.0, metrics={"sales": 3.0}),
    judged(MISTAKEN, False, truth_class=5),
    feedback_line(NUMBER, truth=7.0, outcomes=REGRESSION),
]


def test_sums_are_the_same_after_a_restart(tmp_path: Path) -> None:
    first = Run(tmp_path)
    first.record(b"".join(LINES))
    first.state.save()
    second = Run(tmp_path)
    for key, counted in first.feedback.by_version.items():
        again = second.feedback.by_version[key]
        assert again.sums == counted.sums
        assert again.received_sums() == {}, "counters of the process begin anew"


def test_what_was_recorded_after_the_last_save_is_counted_once(tmp_path: Path) -> None:
    first = Run(tmp_path)
    first.record(LINES[0])
    first.state.save()
    first.record(b"".join(LINES[1:]))  # and then it is killed
    second = Run(tmp_path)
    assert {key: one.sums for key, one in second.feedback.by_version.items()} == {
        key: one.sums for key, one in first.feedback.by_version.items()
    }
    second.record(judged(MISTAKEN, True, truth_class=5))
    assert second.feedback.by_version["digits", 1, "stable"].sums.outcomes["wrong"] == (1, 0.0), "it was corrected"
    second.state.save()
    assert Run(tmp_path).feedback.by_version["digits", 1, "stable"].sums.outcomes["wrong"] == (1, 0.0)


def test_named_outcomes_are_counted_from_the_records_though_it_is_known_later_which_are_named(tmp_path: Path) -> None:
    first = Run(tmp_path)
    others = {f"m{number}": 1.0 for number in range(2 * MOST_METRICS)}
    first.record(feedback_line(prediction(1), metrics=others))
    first.record(feedback_line(prediction(2), metrics={"revenue": 7.0, "m0": 2.0}))  # and then it is killed, unsaved
    second = Run(tmp_path)
    second.feedback.keep_named({"digits": {"metrics.revenue"}})
    sums = credit(second.feedback).sums.outcomes
    assert sums["metrics.revenue"] == (1, 7.0)
    assert sums["metrics.m0"] == (2, 3.0)
    assert len(sums) == MOST_METRICS + 1, "of the others, the first that came"
    second.record(feedback_line(prediction(3), metrics={"late": 1.0, "revenue": 1.0}))
    assert len(credit(second.feedback).sums.outcomes) == MOST_METRICS + 1


def test_correction_after_a_restart_replaces_what_was_counted_before_it(tmp_path: Path) -> None:
    first = Run(tmp_path)
    first.record(LINES[2])
    first.state.save()
    second = Run(tmp_path)
    second.record(feedback_line(NUMBER, truth=6.0, outcomes={**REGRESSION, "loss": 1.0}))
    assert credit(second.feedback).sums.outcomes["loss"] == (1, 1.0)
    assert second.feedback.take_new() == [], "it was evidence in the former run"


def test_it_saves_within_five_seconds_even_if_no_more_feedback_comes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.record(LINES[0])
    (tmp_path / FILE).unlink()
    run.record(LINES[1])
    run.state.save_soon()
    assert not (tmp_path / FILE).exists()
    run.time_s = state_module.SAVE_INTERVAL_S
    run.state.save_soon()
    saved = orjson.loads((tmp_path / FILE).read_bytes())
    assert saved["offset"] == len(LINES[0] + LINES[1])
    assert [entry["version"] for entry in saved["versions"]] == [2, 1]
    (tmp_path / FILE).unlink()
    run.time_s *= 2
    run.state.save_soon()
    assert not (tmp_path / FILE).exists(), "nothing has come"


def test_feedback_in_segments_that_are_numbered_anew_is_counted_after_a_kill(tmp_path: Path) -> None:
    first = Run(tmp_path)
    first.record(LINES[0], segment=7)
    first.state.save()
    segment_path(tmp_path / "records", FEEDBACK, 7, open=True).unlink()
    second = Run(tmp_path)
    second.record(LINES[1])
    second.record(LINES[2])  # and then it is killed
    third = Run(tmp_path)
    assert {key: one.sums for key, one in third.feedback.by_version.items()} == {
        key: one.sums for key, one in second.feedback.by_version.items()
    }


def test_feedback_read_at_the_start_is_not_received_by_this_process(tmp_path: Path) -> None:
    first = Run(tmp_path)
    first.record(LINES[0])
    first.record(LINES[1])  # and then it is killed
    for one in Run(tmp_path).feedback.by_version.values():
        assert (one.received_sums(), one.received_classes, sum(one.received.values())) == ({}, {}, 0)


def test_record_writer_saves_while_nothing_more_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "SAVE_INTERVAL_S", 0.0)
    saved: queue.SimpleQueue[int] = queue.SimpleQueue()
    records = RecordCollector(
        RecordsSettings(),
        tmp_path,
        f"test-{time.monotonic_ns()}",
        1,
        lambda _, content: saved.put(orjson.loads(content())["offset"]),
    )
    records.writer.start()
    ring = Ring.attach(records.rings[0].feedback)
    for count in (1, 2):
        assert ring.append(LINES[0])
        assert saved.get(timeout=30) == count * len(LINES[0])
    records.stop()


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"[]", b'{"segment":1,"offset":0,"versions":7}', b'{"segment":-1,"offset":0,"versions":[]}',
     b'{"segment":1,"offset":9,"versions":[{"model":"digits","version":2,"variant":"stable","outcomes":{"a":[1]}}]}',
     b'{"segment":1,"offset":9,"versions":[{"model":"m","version":2,"variant":"stable","outcomes":{"a":[1,null]},'
     b'"routes":{},"classes":{}}]}'],
)  # fmt: skip
def test_damaged_file_is_replaced_by_what_the_records_hold(
    tmp_path: Path, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first = Run(tmp_path)
    first.record(LINES[0])
    first.state.save()
    (tmp_path / FILE).write_bytes(damaged)
    assert credit(Run(tmp_path).feedback).sums.outcomes == credit(first.feedback).sums.outcomes
    assert "cannot be used" in caplog.text


def test_only_what_is_damaged_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Run(tmp_path)
    first.record(b"".join(LINES))
    first.record(judged(prediction(4), True, truth_class=4))
    first.state.save()
    saved = orjson.loads((tmp_path / FILE).read_bytes())
    candidate, stable = sorted(saved["versions"], key=lambda entry: -entry["version"])
    candidate["classes"]["3"] = [-1, 0]
    stable["outcomes"]["wrong"] = [1]
    (tmp_path / FILE).write_bytes(orjson.dumps(saved))
    again = credit(Run(tmp_path).feedback).sums
    assert again.outcomes == first.feedback.by_version["digits", 2, "candidate"].sums.outcomes
    assert again.classes == {4: (1, 0)}
    assert "classes.3 cannot be used" in caplog.text
    assert "versions[0] cannot be used" in caplog.text or "versions[1] cannot be used" in caplog.text
