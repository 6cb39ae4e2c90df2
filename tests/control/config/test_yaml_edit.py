"""Edits of the routing file's text change what they mean to and nothing else."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.config.yaml_edit import (
    PROMOTE,
    UNDO,
    WEIGHT,
    RoutingChange,
    difference,
    promote,
    remove_entries,
    restore_entry,
    set_stable,
    set_weight,
)
from gateway.errors import SettingsError
from gateway.settings.load import parse
from gateway.settings.routing import RoutingSettings

SHIPPED = Path(__file__).parents[3] / "config" / "routing.yaml"

BEFORE = """\
# Who meets what. 客户
models:
  digits:   # the pictures
    # trained in May
    stable: 1          # since May
    candidate: 2       # since June
    split:
      stickiness: customer
      routes:
        - name: pilot            # they asked
          match: [{customer: {in: [acme, "glo # bex"]}}]
          weight: 100
        - {name: everyone, weight: 5}
        # - {name: later, weight: 1}
    guards:
      breaker: {consecutive_failures: 3}   # strict

  # the X-rays
  tumor: {stable: 4, canary: 5, split: {routes: [{name: all, weight: 0.1}]}, rescue: {timeout: 1s}}
"""

DIGITS_PROMOTED = """\
# Who meets what. 客户
models:
  digits:   # the pictures
    # trained in May
    stable: 2          # since May
    guards:
      breaker: {consecutive_failures: 3}   # strict

  # the X-rays
  tumor: {stable: 4, canary: 5, split: {routes: [{name: all, weight: 0.1}]}, rescue: {timeout: 1s}}
"""


def test_promote_removes_only_what_belongs_to_the_candidate() -> None:
    assert promote(BEFORE, "digits") == DIGITS_PROMOTED


def test_promote_an_entry_in_flow_style() -> None:
    after = promote(BEFORE, "tumor").splitlines()
    assert after[-1] == "  tumor: {stable: 5, rescue: {timeout: 1s}}"
    assert after[:-1] == BEFORE.splitlines()[:-1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("models: {m: {candidate: 2, split: {routes: []}, stable: 1}}", "models: {m: {stable: 2}}"),
        ("models:\n  m:\n    candidate: 2\n    stable: 1", "models:\n  m:\n    stable: 2"),
        ("models:\n  m:\n    stable: 1\n    candidate: 2", "models:\n  m:\n    stable: 2\n"),
        ("models:\n  m:\n    stable: 1\n    canary: 2\n# end\n", "models:\n  m:\n    stable: 2\n# end\n"),
        (
            "models:\n  m:\n    stable: 1\n    candidate: 2\n    split:\n      routes:\n"
            "      - name: a\n        weight: 1\n\n  n:\n    stable: 1\n",
            "models:\n  m:\n    stable: 2\n\n  n:\n    stable: 1\n",
        ),
    ],
)
def test_promote_in_other_spellings(before: str, after: str) -> None:
    assert promote(before, "m") == after


def test_promote_every_model_of_the_shipped_file() -> None:
    text = SHIPPED.read_text()
    for model in ("digits", "tumor", "tickets"):
        text = promote(text, model)
    routing = parse(text, RoutingSettings, "routing.yaml")
    assert {name: (release.stable, release.candidate) for name, release in routing.models.items()} == {
        name: (2, None) for name in ("digits", "tumor", "tickets")
    }
    comments = [line for line in SHIPPED.read_text().splitlines() if line.startswith("#")]
    assert [line for line in text.splitlines() if line.startswith("#")] == comments


def test_promote_keeps_the_spelling_of_the_version() -> None:
    assert promote("models: {m: {stable: 1, candidate: 0x2}}", "m") == "models: {m: {stable: 0x2}}"


def test_set_weight_changes_only_the_weight() -> None:
    assert set_weight(BEFORE, "digits", "everyone", 25) == BEFORE.replace("weight: 5}", "weight: 25}")
    assert set_weight(BEFORE, "digits", "pilot", 0.0001) == BEFORE.replace("weight: 100", "weight: 0.0001")
    assert set_weight(BEFORE, "tumor", "all", 0) == BEFORE.replace("weight: 0.1", "weight: 0")


@given(st.integers(0, 1_000_000))
def test_set_weight_writes_every_ppm_value_exactly(ppm: int) -> None:
    routing = parse(set_weight(BEFORE, "digits", "everyone", ppm / 10_000), RoutingSettings, "routing.yaml")
    split = routing.models["digits"].split
    assert split is not None
    assert split.routes[1].weight == ppm


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: {}", "models has no 'm'"),
        ("", "models has no 'm'"),
        ("models: {m: {stable: 1}}", "does not name both stable and candidate"),
        ("models: {m: {stable: 1, candidate: 2", "not valid YAML"),
        ("base: &b {stable: 1, candidate: 2}\nmodels:\n  m: *b\n", "by hand"),
        ("base: &b {stable: 1}\nmodels:\n  m: {<<: *b, candidate: 2}\n", "by hand"),
        (
            "models:\n  m:\n    stable: 1\n    candidate: 2\n    split: &s\n      routes: []\n"
            "  n: {stable: 1, split: *s}\n",
            "by hand",
        ),
    ],
)
def test_promote_refuses_what_it_cannot_edit_exactly(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        promote(text, "m")


@pytest.mark.parametrize(
    ("route", "percent", "says"),
    [("nobody", 5, "it has pilot, everyone"), ("everyone", 101, "from 0 to 100"), ("everyone", 0.00001, "resolution")],
)
def test_set_weight_refuses_an_invalid_weight_or_route(route: str, percent: float, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        set_weight(BEFORE, "digits", route, percent)


def test_set_weight_refuses_a_route_shared_by_two_models() -> None:
    shared = "models:\n  m: {stable: 1, candidate: 2, split: &s {routes: [{name: a, weight: 1}]}}\n"
    shared += "  n: {stable: 1, candidate: 2, split: *s}\n"
    with pytest.raises(SettingsError, match="by hand"):
        set_weight(shared, "n", "a", 5)


def test_difference_is_a_unified_diff_of_the_changed_lines() -> None:
    text = difference(BEFORE, set_weight(BEFORE, "digits", "everyone", 25), "config/routing.yaml")
    changed = [line for line in text.splitlines() if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert changed == ["-        - {name: everyone, weight: 5}", "+        - {name: everyone, weight: 25}"]
    assert text.startswith("--- config/routing.yaml\n+++ config/routing.yaml\n")
    assert difference(BEFORE, BEFORE, "x") == ""
    assert yaml.safe_load(BEFORE)


KEPT_AS_COMMENT = """\
    # split:
    #   stickiness: customer
    #   routes:
    #     - name: pilot            # they asked
    #       match: [{customer: {in: [acme, "glo # bex"]}}]
    #       weight: 100
    #     - {name: everyone, weight: 5}
    #     # - {name: later, weight: 1}
"""


def test_promote_keeps_routes_as_a_comment_for_the_next_candidate() -> None:
    kept = promote(BEFORE, "digits", keep_routes=True)
    assert kept == DIGITS_PROMOTED.replace("# since May\n", f"# since May\n{KEPT_AS_COMMENT}")
    assert "    guards:\n" in kept
    with pytest.raises(SettingsError, match="in one line"):
        promote(BEFORE, "tumor", keep_routes=True)


def test_set_stable_changes_only_the_version() -> None:
    assert set_stable(DIGITS_PROMOTED, "digits", 1) == DIGITS_PROMOTED.replace("stable: 2 ", "stable: 1 ")
    assert set_stable("models: {m: {stable: 2}}", "m", 11) == "models: {m: {stable: 11}}"
    with pytest.raises(SettingsError, match="by hand"):
        set_stable("base: &b {stable: 1}\nmodels:\n  m: *b\n  n: *b\n", "m", 2)


@pytest.mark.parametrize(("model", "keep_routes"), [("digits", False), ("digits", True), ("tumor", False)])
def test_restore_entry_reverts_a_promotion_and_leaves_later_edits_of_other_models(
    model: str, keep_routes: bool
) -> None:
    promoted = promote(BEFORE, model, keep_routes=keep_routes)
    assert restore_entry(promoted, BEFORE, model) == BEFORE
    other = "tumor" if model == "digits" else "digits"
    route = "all" if other == "tumor" else "pilot"
    edited = set_weight(promoted, other, route, 7) + "# the end\n"
    assert restore_entry(edited, BEFORE, model) == set_weight(BEFORE, other, route, 7) + "# the end\n"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_restore_entry_at_the_end_of_the_file_or_not(end: str) -> None:
    begin, after = "models:\n  m:\n    stable: 1\n    candidate: 2", "  n:\n    stable: 1\n"
    promoted = promote(begin + end, "m")
    longer = promoted if promoted.endswith("\n") else promoted + "\n"
    assert restore_entry(longer + after, begin + end, "m").replace("\r", "") == begin + "\n" + after
    assert restore_entry(promoted.rstrip("\r\n"), begin + end, "m").rstrip("\r\n") == begin


def test_restore_entry_refuses_an_entry_edited_since() -> None:
    promoted = promote(BEFORE, "digits")
    for edited in (promoted.replace("# strict", "# lax"), promoted.replace("failures: 3", "failures: 4")):
        with pytest.raises(SettingsError, match="edited since the promotion"):
            restore_entry(edited, BEFORE, "digits")


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (
            "models:\n  a: {stable: 1}\n  # b's\n  b:\n    stable: 1\n    # inside\n  c: {stable: 1}\n",
            "models:\n  # b's\n  b:\n    stable: 1\n    # inside\n",
        ),
        ("models: {a: {stable: 1}, b: {stable: 1}, c: {stable: 1}} # all\n", "models: {b: {stable: 1}} # all\n"),
    ],
)
def test_removed_entries_leave_the_others_as_they_are(text: str, after: str) -> None:
    assert remove_entries(text, ("a", "c")) == after


@pytest.mark.parametrize(
    "change",
    [
        RoutingChange(PROMOTE, "digits", versions=(1, 2)),
        RoutingChange(WEIGHT, "digits", "everyone", 7, versions=(1, 2)),
        RoutingChange(UNDO, "digits", stable=4, versions=(1, 2)),
    ],
)
def test_a_change_of_other_versions_than_were_seen_is_refused(change: RoutingChange) -> None:
    assert change.made(BEFORE) != BEFORE
    for old, new in (("candidate: 2 ", "candidate: 3 "), ("stable: 1 ", "stable: 7 ")):
        with pytest.raises(SettingsError, match=r"models\.digits has just been changed by another edit"):
            change.made(BEFORE.replace(old, new))
