"""Which loads and unloads the history holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.config.load_history import DAY_S, MOST_A_DAY, LoadHistory
from gateway.control.release.decisions import DecisionLog
from gateway.messages import LoadRequest

LOAD = LoadRequest(1, "digits", load=True, by="key a1", origin="192.0.2.1")
UNLOAD = LoadRequest(2, "digits", load=False, by="key a1")


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Iterator[DecisionLog]:
    log = DecisionLog(tmp_path)
    yield log
    log.close()


def test_load_says_who_asked_from_where_and_what_was_loaded(log: DecisionLog) -> None:
    LoadHistory(log).loaded(LOAD, None, {"1": "ab" * 32, "2": ""}, 1)
    (found,) = log.decisions
    assert (found.action, found.by, found.candidate, found.evidence["from"]) == ("load", "key a1", 1, "192.0.2.1")
    assert found.reason == "loaded from disk: 1 (abababababab) and 2, as a client asked"
    assert found.evidence["sha256"] == {"1": "ab" * 32, "2": ""}


def test_load_of_the_same_files_is_not_repeated_but_after_an_unload(log: DecisionLog) -> None:
    history = LoadHistory(log)
    for digest in ("a", "a", "b"):
        history.loaded(LOAD, None, {"1": digest}, 1)
    history.unloaded(UNLOAD, 1)
    history.loaded(LOAD, 2, {"1": "b"}, 1)
    assert [one.action for one in log.decisions] == ["load", "load", "unload", "load"]
    assert log.decisions[-1].candidate == 2


def test_a_client_that_loads_and_unloads_for_ever_displaces_nothing_else(log: DecisionLog) -> None:
    clock = Clock()
    history = LoadHistory(log, clock)
    log.record("digits", 2, "promote", "alice", "it is better", {})
    for _ in range(1000):
        clock.now_s += 1.0
        history.loaded(LOAD, None, {"1": "a"}, 1)
        history.unloaded(UNLOAD, 1)
    assert len(log.decisions) == 1 + MOST_A_DAY
    assert log.decisions[0].action == "promote"
    clock.now_s = DAY_S + 1.0  # as long after the first one
    history.loaded(LOAD, None, {"1": "a"}, 1)
    assert f"; {2000 - MOST_A_DAY:,} loads and unloads before it are not recorded" in log.decisions[-1].reason
    assert len(log.decisions) == 2 + MOST_A_DAY
