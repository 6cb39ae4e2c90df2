"""The list of decisions is encoded as JSON once for all readers until the next decision."""

from typing import Any

import orjson
import pytest

from gateway.control.api import decision_list
from gateway.control.api.decision_list import DecisionListCache
from gateway.control.api.rendering import decision_document
from gateway.control.release.decisions import ReleaseDecision


def decisions(count: int) -> list[ReleaseDecision]:
    return [
        ReleaseDecision(
            time_ns=n,
            model=f"m{n % 3}",
            candidate=2,
            action="stop",
            by="me",
            reason="why",
            evidence={"n": n},
            sequence=n,
        )
        for n in range(1, count + 1)
    ]


def test_each_decision_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(decision: ReleaseDecision) -> Any:
        made.append(decision.sequence)
        return decision_document(decision)

    monkeypatch.setattr(decision_list, "decision_document", counted)
    known, one = decisions(5), DecisionListCache()
    assert [item["sequence"] for item in orjson.loads(one.get(known, None, 1000))] == [5, 4, 3, 2, 1]
    assert one.get(known, None, 1000) is one.get(known, None, 1000)
    assert [item["sequence"] for item in orjson.loads(one.get(known, "m2", 1))] == [5]
    assert [item["sequence"] for item in orjson.loads(one.get(known, "m2", 9))] == [5, 2]
    later = [*known[2:], *decisions(6)[5:]]
    assert [item["sequence"] for item in orjson.loads(one.get(later, None, 3))] == [6, 5, 4]
    assert orjson.loads(one.get(later, "m1", 9)) == [decision_document(later[1])]
    assert made == [1, 2, 3, 4, 5, 6]


def test_decisions_without_a_sequence_number_are_not_confused() -> None:
    old = [
        ReleaseDecision(time_ns=time_ns, model="m", candidate=2, action="stop", by="me", reason="why", evidence={})
        for time_ns in (1, 2)
    ]
    assert [item["time_ns"] for item in orjson.loads(DecisionListCache().get(old, None, 9))] == [2, 1]


def test_cache_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_list, "MAX_CACHED", 2)
    one, known = DecisionListCache(), decisions(5)
    for n in range(6):
        assert orjson.loads(one.get(known, None, n)) == [decision_document(each) for each in known[::-1][:n]]
    assert len(one._answers) == 2
