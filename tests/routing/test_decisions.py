"""Decisions: a table of cases, and properties over random rules and requests."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.attributes import Attributes
from gateway.routing.explanation import explain
from gateway.routing.release import Release
from gateway.settings.routing import ReleaseSettings

CASES = yaml.safe_load((Path(__file__).parent / "decisions.yaml").read_text())
REQUESTS = [(case, request) for case in CASES for request in case["requests"]]


def release_of(settings: Any) -> Release:
    return Release("m", ReleaseSettings.model_validate(settings))


@pytest.mark.parametrize(("case", "request_"), REQUESTS, ids=[f"{index}" for index in range(len(REQUESTS))])
def test_decide_gives_the_expected_decision(case: Any, request_: Any) -> None:
    release = release_of(case["release"])
    decision = release.decide(Attributes(**request_["is"]), "p-1", case.get("stopped", False))
    found = {**asdict(decision), "weight": decision.weight_ppm / 10_000}
    expected = {key: value for key, value in request_.items() if key != "is"}
    assert {key: found[key] for key in expected} == expected


def test_pinned_version_is_not_split() -> None:
    decision = release_of(CASES[1]["release"]).pinned(4)
    assert (decision.version, decision.variant, decision.route, decision.propensity) == (4, "pinned", "pinned", 1.0)


def test_changed_weight_applies_at_once() -> None:
    release = release_of(CASES[1]["release"])
    request = Attributes(customer="user-42")
    assert release.decide(request, "p").variant == "stable"
    release.weights_ppm[2] = 629_159
    assert release.decide(request, "p").variant == "candidate"
    assert release.decide(request, "p", stopped=True).variant == "stable"


def test_without_a_key_the_prediction_id_decides() -> None:
    release = release_of(
        {"stable": 1, "candidate": 2, "split": {"salt": "exp-1", "routes": [{"name": "r", "weight": 50}]}}
    )
    assert release.decide(Attributes(), "user-42").bucket == 629_158


def test_headers_used_by_rules_are_listed() -> None:
    settings = {
        "stable": 1,
        "candidate": 2,
        "split": {
            "stickiness": "header:X-Session",
            "routes": [{"name": "r", "match": [{"headers": {"X-Region": "eu"}}], "weight": 5}],
        },
    }
    assert release_of(settings).headers == {"x-region", "x-session"}


VALUES = st.sampled_from(["", "a", "ab", "abc", "b", "ba", "é", "1"])
SIMPLE = st.one_of(
    st.builds(lambda value: {"exact": value}, VALUES),
    st.builds(lambda values: {"in": sorted(values)}, st.sets(VALUES, min_size=1, max_size=4)),
    st.builds(lambda value: {"prefix": value}, VALUES),
    st.builds(lambda value: {"suffix": value}, VALUES),
    st.sampled_from([{"regex": "a.*"}, {"regex": "[ab]+"}, {"regex": ""}]),
)
MATCHERS = st.one_of(
    SIMPLE,
    st.builds(lambda matcher: {"not": matcher}, SIMPLE),
    st.builds(lambda left, right: {**left, **right}, SIMPLE, SIMPLE),
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "customer": MATCHERS,
        "modality": MATCHERS,
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), MATCHERS, max_size=2),
        "parameters": st.dictionaries(st.sampled_from(["p", "q"]), MATCHERS, max_size=2),
    },
)
RELEASES = st.lists(st.lists(ITEMS, max_size=3), max_size=6).map(
    lambda routes: {
        "stable": 1,
        "candidate": 2,
        "split": {"routes": [{"name": f"r{i}", "match": match, "weight": i * 10} for i, match in enumerate(routes)]},
    }
)
ATTRIBUTES = st.builds(
    Attributes,
    st.none() | VALUES,
    st.none() | VALUES,
    st.dictionaries(st.sampled_from(["x-a", "x-b"]), VALUES),
    st.dictionaries(st.sampled_from(["p", "q"]), VALUES | st.booleans() | st.integers(0, 2)),
)


@given(RELEASES, ATTRIBUTES)
def test_decide_with_the_index_equals_walking_the_routes(settings: Any, attributes: Attributes) -> None:
    release = release_of(settings)
    assert release.decide(attributes, "p-1") == explain(release, attributes, "p-1").decision
