"""Effects in the terms that people know, for documents and the records of decisions."""

from dataclasses import replace

import pytest

from gateway.control.release.known_effects import effect_documents, known_record, record_of
from gateway.evidence.effect import Effect, EffectVerdict

WRONG = Effect(
    outcome="wrong",
    route=None,
    verdict=EffectVerdict.BETTER,
    effect=-0.03,
    low=-0.05,
    high=-0.01,
    alpha=0.05,
    asymptotic=False,
    candidate_units=300,
    stable_units=700,
    candidate_mean=0.07,
    stable_mean=0.1,
    clipped=0,
    harm="increase",
    tolerance=0.0,
    more_units=None,
)
UNSURE = replace(WRONG, verdict=EffectVerdict.UNKNOWN, more_units=1200, low=-0.05, high=0.2)


def of(outcome: str, like: Effect = WRONG, **more: object) -> Effect:
    return replace(like, outcome=outcome, **more)  # type: ignore[arg-type]


def test_fewer_wrong_answers_are_a_higher_accuracy() -> None:
    (found,) = effect_documents([WRONG])
    assert (found["metric"], found["form"], found["higher_is_better"]) == ("accuracy", "share", True)
    assert (found["effect"], found["low"], found["high"]) == (0.03, 0.01, 0.05)
    assert (found["candidate"], found["stable"]) == (0.9299999999999999, 0.9)
    assert (found["candidate_units"], found["stable_units"], found["level"]) == (300, 700, 0.95)
    assert (found["verdict"], found["words"]) == ("better", "better")


def test_words_say_what_is_missing_and_that_feedback_is_unequal() -> None:
    (found,) = effect_documents([replace(UNSURE, feedback_ratio=2.0, clipped=3)])
    assert found["clipped"] == 3 and found["words"].endswith(
        "; 3 of 1,000 outcomes are beyond the range, and count as its end"
    )
    assert found["words"].startswith("not known yet: about 1,200 outcomes more; feedback comes 2 times as often")


def test_how_often_failures_come_is_said_first_and_as_a_ratio() -> None:
    failures = of("failures", is_ratio=True, verdict=EffectVerdict.WORSE, effect=3.5, candidate_mean=None)
    found, slow, accuracy = effect_documents([WRONG, replace(failures, outcome="slow_requests"), failures])
    assert (found["metric"], found["label"], found["form"]) == ("failures", "failures", "ratio")
    assert (found["effect"], found["candidate"], found["higher_is_better"]) == (3.5, None, False)
    assert (slow["label"], accuracy["metric"]) == ("slow requests", "accuracy")
    assert known_record([WRONG, failures])["effects"][0] == found


def test_outcomes_that_say_the_same_are_shown_once() -> None:
    assert [one["metric"] for one in effect_documents([WRONG, of("loss", asymptotic=True, low=None, high=None)])] == [
        "accuracy"
    ]
    assert [one["metric"] for one in effect_documents([WRONG, of("loss", candidate_mean=0.01)])] == [
        "accuracy",
        "labels_wrong",
    ]
    assert effect_documents([of("complaint")]) == [], "who is content gives no feedback"


def test_regression_and_business_metrics_keep_their_units() -> None:
    revenue = of("metrics.revenue", effect=2.0, low=1.0, high=3.0, harm="", verdict=EffectVerdict.HIGHER)
    squared = of("squared_error", effect=9.0, low=4.0, high=14.0, verdict=EffectVerdict.WORSE)
    found = effect_documents([revenue, of("loss", effect=1.5, low=0.5, high=2.5), squared])
    assert [(one["metric"], one["label"], one["effect"], one["higher_is_better"]) for one in found] == [
        ("mae", "MAE", 1.5, False),
        ("mse", "MSE", 9.0, False),
        ("metrics.revenue", "revenue", 2.0, None),
    ]


def test_effects_are_listed_on_all_traffic_and_then_by_route() -> None:
    found = effect_documents([WRONG, of("wrong", route="b"), of("reward"), of("wrong", route="a")])
    assert [(one["route"], one["metric"]) for one in found] == [
        (None, "accuracy"), (None, "reward"), ("b", "accuracy"), ("a", "accuracy"),
    ]  # fmt: skip


def test_how_often_failures_come_on_a_route_is_listed_with_the_route() -> None:
    failures = of("failures", is_ratio=True, candidate_mean=None)
    slow = replace(failures, outcome="slow_requests")
    on_b = [replace(one, route="b") for one in (slow, failures)]
    found = effect_documents([failures, *on_b, slow, WRONG, of("wrong", route="a"), of("wrong", route="b")])
    assert [(one["route"], one["metric"]) for one in found] == [
        (None, "failures"), (None, "slow_requests"), (None, "accuracy"),
        ("b", "failures"), ("b", "slow_requests"), ("b", "accuracy"), ("a", "accuracy"),
    ]  # fmt: skip
    assert [one["route"] for one in known_record([failures, *on_b])["effects"]] == [None, "b", "b"]


def test_record_keeps_what_is_known_and_of_the_routes_only_what_is_certain() -> None:
    kept = known_record([UNSURE, of("wrong", UNSURE, route="a"), of("wrong", route="b")])["effects"]
    assert [(one["route"], one["verdict"]) for one in kept] == [(None, "not known yet"), ("b", "better")]
    assert known_record([]) == {}


def test_effects_that_cannot_be_said_hold_up_no_decision(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> tuple[Effect, ...]:
        raise OverflowError("too large")

    assert record_of(broken) == {}
    assert "too large" in caplog.text


def test_record_is_bounded_and_keeps_what_is_most_certain_on_routes() -> None:
    whole = [of(f"metrics.{number}") for number in range(100)]
    routes = [of("wrong", route=str(number), low=-0.06 - number / 100) for number in range(100)]
    kept = known_record([*whole, *reversed(routes)])["effects"]
    assert len(kept) == 32 + 16
    assert [one["route"] for one in kept[32:]] == [str(number) for number in reversed(range(16))]
