"""Batch sizes of a version on a GPU: which are worth it, and a session for each where changing the size is slow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.backends import bucket_sessions
from gateway.backends.bucket_sessions import sessions_by_size, worthwhile_sizes
from gateway.backends.onnx import OnnxSession
from gateway.errors import ModelUnavailable
from tests.backends.test_bucketed import layers, opened, rows


@pytest.mark.parametrize(
    ("took", "kept"),
    [
        ({1: 2.07, 2: 2.1, 4: 2.2, 8: 2.3, 16: 3.7, 32: 6.3}, [8, 16, 32]),
        ({1: 1.0, 2: 2.0, 4: 4.0}, [1, 2, 4]),
        ({1: 1.0, 2: 1.0, 4: 1.0}, [4]),
        ({7: 1.0}, [7]),
    ],
)
def test_sizes_that_save_no_time_are_padded_to_the_next(took: dict[int, float], kept: list[int]) -> None:
    assert worthwhile_sizes(took) == kept


def test_one_session_if_changing_the_size_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_sessions, "KEEP_RATIO", float("inf"))
    monkeypatch.setattr(bucket_sessions, "CHANGE_COST_RATIO", float("inf"))
    session = opened(tmp_path, layers)
    assert sessions_by_size(session, (1, 2, 4), rows(1, 1.0)) == {1: session, 2: session, 4: session}


def test_a_session_for_each_size_if_changing_it_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_sessions, "KEEP_RATIO", float("inf"))
    monkeypatch.setattr(bucket_sessions, "CHANGE_COST_RATIO", 0.0)
    session = opened(tmp_path, layers)
    found = sessions_by_size(session, (1, 2, 4), rows(1, 1.0))
    assert (found[1], len(set(map(id, found.values())))) == (session, 3)
    answers = [one.run(rows(3, 1.0))[0] for one in found.values()]
    assert answers[0] is not None
    assert all(answer is not None and np.array_equal(answer, answers[0]) for answer in answers)


def test_all_batches_are_padded_to_the_largest_if_no_more_sessions_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> OnnxSession:
        raise ModelUnavailable("out of memory")

    monkeypatch.setattr(bucket_sessions, "KEEP_RATIO", float("inf"))
    monkeypatch.setattr(bucket_sessions, "CHANGE_COST_RATIO", 0.0)
    session = opened(tmp_path, layers)
    session.reopen = refuse
    assert sessions_by_size(session, (1, 2, 4), rows(1, 1.0)) == {4: session}
    assert "padded to 4 rows: out of memory" in caplog.text
