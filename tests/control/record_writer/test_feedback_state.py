"""The sums of feedback survive restarts, exactly: kept in a file, with what was recorded after it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.control.record_writer import feedback_state as state_module
from gateway.control.record_writer.feedback_state import FILE, FeedbackState
from gateway.control.record_writer.feedback_stats import FeedbackStats, Place
from gateway.records.segments import FEEDBACK, segment_path
from gateway.routing.release import Variant
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
        (folder / "records").mkdir(exist_ok=True)
        self._segment = segment_path(folder / "records", FEEDBACK, 1, open=True)
        self.feedback = FeedbackStats(SIGNER)
        self.state = FeedbackState(self.feedback, folder, _write, lambda: self.time_s)

    def record(self, lines: bytes) -> None:
        with self._segment.open("ab") as file:
            file.write(lines)
            end = file.tell()
        self.feedback.add(lines)
        self.state.counted(Place(1, end))


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


def test_correction_after_a_restart_replaces_what_was_counted_before_it(tmp_path: Path) -> None:
    first = Run(tmp_path)
    first.record(LINES[2])
    first.state.save()
    second = Run(tmp_path)
    second.record(feedback_line(NUMBER, truth=6.0, outcomes={**REGRESSION, "loss": 1.0}))
    assert credit(second.feedback).sums.outcomes["loss"] == (1, 1.0)
    assert second.feedback.take_new() == [], "it was evidence in the former run"


def test_it_saves_every_five_seconds_while_feedback_comes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.record(LINES[0])
    assert not (tmp_path / FILE).exists()
    run.time_s = state_module.SAVE_INTERVAL_S
    run.record(LINES[1])
    saved = orjson.loads((tmp_path / FILE).read_bytes())
    assert saved["offset"] == len(LINES[0] + LINES[1])
    assert [entry["version"] for entry in saved["versions"]] == [2, 1]


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
