"""Naming a candidate changes nothing else in the text, and the result is what a person would have written."""

from pathlib import Path

import pytest
import yaml

from gateway.control.config.yaml_candidate import Weight, name_candidate
from gateway.control.config.yaml_edit import difference, promote, refuse_other_release
from gateway.errors import SettingsError
from gateway.settings.routing_file import parse_routing
from tests.control.config.test_yaml_edit import BEFORE, DIGITS_PROMOTED

SHIPPED = (Path(__file__).parents[3] / "config" / "routing.yaml").read_text()
ROUTE = "    split:\n      routes:\n        - name: everyone\n          weight: {}\n"
RAMP = "    ramp:\n      weights: [0.1, 1, 5, 25, 50, 100]\n      interval: 10m\n      advance: safe\n"


def changes(before: str, after: str) -> list[str]:
    return [line for line in difference(before, after, "f").splitlines()[2:] if line[0] in "+-"]


def name(text: str, model: str = "b", weight: Weight | None = None) -> str:
    after = name_candidate(text, model, stable=1, candidate=9, weight=weight)
    parse_routing(after.encode(), "routing.yaml")
    return after


def test_a_candidate_is_replaced_and_its_split_stays() -> None:
    assert changes(SHIPPED, name(SHIPPED, "digits")) == ["-    candidate: 2", "+    candidate: 9"]
    after = name(BEFORE, "tumor")
    assert after == BEFORE.replace("canary: 5", "canary: 9")


def test_a_release_without_routes_gets_one_with_weight_0() -> None:
    after = name(DIGITS_PROMOTED, "digits")
    new = "    candidate: 9\n" + ROUTE.format(0)
    line = "    stable: 2          # since May\n"
    assert after == DIGITS_PROMOTED.replace(line, line + new)


@pytest.mark.parametrize(
    ("weight", "written"), [(12.5, "12.5"), (0.0001, "0.0001"), (100, "100"), (0, "0"), ("ramp", "ramp")]
)
def test_the_weight_of_a_new_route(weight: Weight, written: str) -> None:
    after = name("models:\n  b:\n    stable: 1\n", weight=weight)
    ramp = RAMP if weight == "ramp" else ""
    assert after == "models:\n  b:\n    stable: 1\n    candidate: 9\n" + ROUTE.format(written) + ramp


def test_the_weight_of_a_route_that_is_there() -> None:
    expected = ["-    candidate: 2", "+    candidate: 9", "-          weight: 5", "+          weight: 2.5"]
    assert changes(SHIPPED, name(SHIPPED, "digits", 2.5)) == expected
    assert "{name: everyone, weight: ramp}" in name(BEFORE, "digits", "ramp")


def test_a_route_beside_others_comes_last() -> None:
    added = ["+        - name: everyone", "+          weight: 3"]
    assert changes(SHIPPED, name(SHIPPED, "tickets", 3)) == ["-    candidate: 2", "+    candidate: 9", *added]
    assert "[{name: all, weight: 0.1}, {name: everyone, weight: 3}]" in name(BEFORE, "tumor", 3)


def test_a_ramp_that_is_there_is_followed() -> None:
    promoted = promote(SHIPPED, "tumor")
    added = ["+    candidate: 9", *(f"+{line}" for line in ROUTE.format("ramp").splitlines())]
    assert changes(promoted, name(promoted, "tumor", "ramp")) == added


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "models:\n  b:\n{}"),
        ("# none yet\n", "# none yet\nmodels:\n  b:\n{}"),
        ("{}\n", "models:\n  b:\n{}"),
        ("models:\n", "models:\n  b:\n{}"),
        ("models:  # none yet\n", "models:\n  b:\n{}"),
        ("models:\n  a:\n    stable: 3  # old\n", "models:\n  a:\n    stable: 3  # old\n  b:\n{}"),
        ("models:\n  a:\n    stable: 3", "models:\n  a:\n    stable: 3\n  b:\n{}"),
        ("models:\r\n  a:\r\n    stable: 3\r\n", "models:\r\n  a:\r\n    stable: 3\r\n  b:\r\n{}"),
    ],
)
def test_a_model_without_an_entry_gets_one(before: str, after: str) -> None:
    entry = "    stable: 1\n    candidate: 9\n" + ROUTE.format(5)
    entry = entry.replace("\n", "\r\n") if "\r\n" in before else entry
    written = name(before, weight=5)
    kept = written.replace("  # none yet\n", "\n") if "models:  #" in before else written
    assert kept == after.format(entry)


@pytest.mark.parametrize("flow", ["{}", "{a: {stable: 3}}", "{b: {stable: 1}}", "{b: {stable: 1, candidate: null}}"])
def test_flow_style_stays_flow_style(flow: str) -> None:
    after = name(f"models: {flow}  # all\n", weight=5)
    assert after.endswith("}  # all\n")
    assert after.count("\n") == 1
    assert yaml.safe_load(after)["models"]["b"]["split"] == {"routes": [{"name": "everyone", "weight": 5}]}


@pytest.mark.parametrize("split", ["{stickiness: prediction}", "{stickiness: prediction, routes: []}"])
def test_a_split_without_routes_gets_one(split: str) -> None:
    after = name(f"models:\n  b:\n    stable: 1\n    split: {split}\n")
    meant = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 0}]}
    assert yaml.safe_load(after)["models"]["b"] == {"stable": 1, "candidate": 9, "split": meant}


def test_comments_stay_where_they_belong() -> None:
    split = "    split:\n      routes:\n        - {name: x, weight: 1}\n        # - y\n"
    before = f"models:\n  b:\n    stable: 1\n{split}    candidate: 3\n"
    after = name(before, weight="ramp")
    assert (
        "        - {name: x, weight: 1}\n        - name: everyone\n          weight: ramp\n        # - y\n    ramp:"
        in after
    )


@pytest.mark.parametrize("model", ["on", "1", "2026-01-01", "no"])
def test_a_name_that_yaml_would_read_otherwise_is_quoted(model: str) -> None:
    assert f"'{model}':" in name("models:\n  b:\n    stable: 1\n", model)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models:\n  a: &a {stable: 1}\n  b: *a\n", "by hand"),
        ("x: &x {stable: 1}\nmodels:\n  b:\n    <<: *x\n", "does not name stable itself"),
        ("models:\n  b:\n    stable: 1\n    ramp: null\n", "ramp is null"),
    ],
)
def test_what_cannot_be_done_exactly_is_refused(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        name_candidate(text, "b", stable=1, candidate=9, weight="ramp")


def test_another_edit_that_came_first_is_not_overwritten() -> None:
    text = "models: {digits: {stable: 1, candidate: 2}}"
    refuse_other_release(text, "digits", stable=1, candidate=2)
    refuse_other_release(text, "other", stable=1, candidate=None)
    for stable, candidate in ((1, None), (1, 3), (2, 2)):
        with pytest.raises(SettingsError, match=r"models\.digits has just been changed by another edit"):
            refuse_other_release(text, "digits", stable=stable, candidate=candidate)
