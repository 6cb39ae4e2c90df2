"""`slow_requests` of remote versions: two servers are compared as they answer, without a baseline."""

from pathlib import Path

import pytest

from loadtests.compared import MEAN_MS, lasted

pytestmark = pytest.mark.slow
ALPHA = "0.01%"  # of a harmless one: so seldom is this test unlucky
LONGEST_S = 60.0


def test_twin_of_a_remote_stable_is_not_stopped(tmp_path: Path) -> None:
    found = lasted(tmp_path, MEAN_MS, 8.0, 32, ALPHA)
    assert (found.stopped_by, found.failed) == ("", 0)
    assert found.candidate > 100


def test_remote_candidate_twice_as_slow_is_stopped(tmp_path: Path) -> None:
    found = lasted(tmp_path, 2 * MEAN_MS, LONGEST_S, 8, ALPHA)
    assert found.stopped_by.startswith("slow")
    assert found.failed == 0
