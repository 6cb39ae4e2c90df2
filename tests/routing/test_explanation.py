"""Explanations give the reason in words and name the condition."""

from typing import Any

from gateway.routing.attributes import Attributes
from gateway.routing.explanation import explain
from gateway.routing.release import Release
from gateway.settings.routing import ReleaseSettings

ROUTES: list[dict[str, Any]] = [
    {"name": "pilot", "match": [{"customer": {"in": ["acme", "globex"]}}], "weight": 100},
    {"name": "eu", "match": [{"modality": "image", "headers": {"x-region": {"prefix": "eu-"}}}], "weight": 10},
    {"name": "everyone", "weight": 5},
]


def release(**changes: Any) -> Release:
    settings = {"stable": 1, "candidate": 2, "split": {"routes": ROUTES}} | changes
    return Release("m", ReleaseSettings.model_validate(settings))


def test_explanation_lists_each_route_up_to_the_match() -> None:
    explanation = explain(release(), Attributes(customer="joe", modality="text"), None)
    assert [(trial.route, trial.matched, trial.reason) for trial in explanation.trials] == [
        ("pilot", False, "customer is 'joe', not one of acme, globex"),
        ("eu", False, "modality is 'text', not 'image'"),
        ("everyone", True, "matches every request"),
    ]
    assert explanation.decision is not None
    assert explanation.decision.route == "everyone"
    assert f"customer 'joe' is in bucket {explanation.decision.bucket:,}" in explanation.why


def test_missing_attribute_is_reported_as_missing() -> None:
    explanation = explain(release(), Attributes(modality="image"), None)
    assert explanation.trials[0].reason == "customer is missing, not one of acme, globex"
    assert explanation.trials[1].reason == "headers.x-region is missing, not 'eu-…'"


def test_without_a_key_the_assignment_is_random() -> None:
    explanation = explain(release(), Attributes(), None)
    assert explanation.decision is None
    assert "at random" in explanation.why
    assert explain(release(), Attributes(), "p-1").key_source == "prediction"


def test_weight_100_needs_no_key() -> None:
    routes = [{"name": "all", "weight": 100}]
    decision = explain(release(split={"routes": routes}), Attributes(), None).decision
    assert decision is not None
    assert (decision.version, decision.bucket) == (2, None)


def test_explanation_names_stops_and_missing_candidates() -> None:
    assert "stopped" in explain(release(), Attributes(customer="acme"), None, stopped=True).why
    assert "no candidate" in explain(release(candidate=None, split=None), Attributes(customer="acme"), None).why
    only_pilot = {"routes": ROUTES[:1]}
    assert "no route matches" in explain(release(split=only_pilot), Attributes(customer="x"), None).why
