"""Which releases are served: the file says what changes, and everything it does not name stays as it was."""

from typing import Any

import pytest

from gateway.control.config.memory import ReleaseMemory, RememberedRelease, UndoPoint
from gateway.control.config.resolve import ResolvedRouting, ResolveInput, candidates_closed, resolve
from gateway.control.config.review import parse_accepted, validate
from gateway.errors import SettingsError
from gateway.settings.routing import RoutingSettings

ROUTES = {"routes": [{"name": "all", "weight": 50}]}
RUNNING = RememberedRelease(1, 2, "a-salt")
NEVER: ReleaseMemory = {}


def resolved(
    models: Any, memory: ReleaseMemory = NEVER, stopped: Any = (), loaded: Any = (), **versions: list[int]
) -> ResolvedRouting:
    routing = RoutingSettings.model_validate({"models": models})
    return resolve(routing, ResolveInput(memory, versions, frozenset(stopped), frozenset(loaded)), "routing.yaml")


def stable(one: ResolvedRouting) -> dict[str, int]:
    return {name: release.stable for name, release in one.routing.models.items()}


def test_model_without_an_entry_keeps_its_first_highest_version() -> None:
    first = resolved({}, m=[1, 2])
    assert (stable(first), first.configured) == ({"m": 2}, frozenset())
    later = resolved({}, first.memory, m=[1, 2, 3])
    assert (stable(later), later.notes) == ({"m": 2}, {})
    gone = resolved({}, later.memory, m=[1, 3])
    assert stable(gone) == {"m": 2}, "unavailable, and no other version stands in for it"


def test_stopped_version_becomes_stable_only_if_the_file_says_so() -> None:
    assert stable(resolved({}, stopped=[("m", 2)], m=[1, 2])) == {"m": 1}
    nothing = resolved({}, stopped=[("m", 2)], m=[2])
    assert stable(nothing) == {}
    assert "name its stable version" in nothing.notes["m"][0]
    asked = resolved({"m": {"stable": 2}}, {"m": RememberedRelease(1, 2)}, stopped=[("m", 2)], m=[1, 2])
    assert stable(asked) == {"m": 2}
    assert asked.notes["m"][0] == "models.m: stable 1 -> 2, which is stopped as a candidate, by the file"


def test_removed_entry_is_refused_while_its_candidate_runs() -> None:
    with pytest.raises(SettingsError) as refused:
        resolved({"n": {"stable": 1}}, {"m": RUNNING}, m=[1, 2])
    assert str(refused.value) == (
        "routing.yaml: models.m: its entry is gone, and its candidate 2 is not stopped; to end it, name the model with"
        " stable alone: m: {stable: 1}"
    )
    meant = resolved({"n": {"stable": 1}, "m": {"stable": 1}}, {"m": RUNNING}, m=[1, 2])
    assert meant.memory["m"] == RememberedRelease(1)


def test_removed_entry_keeps_version_stop_and_salt() -> None:
    gone = resolved({"n": {"stable": 1}}, {"m": RUNNING}, [("m", 2)], m=[1, 2, 3])
    release = gone.routing.models["m"]
    assert (release.stable, release.candidate) == (1, 2)
    assert release.split is not None
    assert (release.split.salt, release.split.routes) == ("a-salt", ())
    assert gone.notes["m"] == ["models.m: its entry is gone; stable stays 1, and candidate 2 stays stopped"]
    still = resolved({"n": {"stable": 1}}, gone.memory, [("m", 2)], m=[1, 2, 3])
    assert (still.memory, still.notes) == (gone.memory, {})
    back = resolved({"n": {"stable": 1}, "m": {"stable": 1, "candidate": 2, "split": ROUTES}}, still.memory, m=[1, 2])
    assert back.routing.models["m"].split is not None
    assert back.routing.models["m"].split.salt == "a-salt"
    assert "stays 'a-salt'" in back.notes["m"][0]


@pytest.mark.parametrize(
    ("entry", "salt"),
    [
        ({"candidate": 2, "split": ROUTES}, "a-salt"),
        ({"candidate": 2}, "a-salt"),
        ({"candidate": 2, "split": {**ROUTES, "salt": None}}, None),
        ({"candidate": 2, "split": {**ROUTES, "salt": "other"}}, "other"),
        ({"candidate": 3, "split": ROUTES}, None),
        ({}, None),
    ],
)
def test_salt_is_kept_until_the_candidate_changes_or_another_is_written(entry: Any, salt: str | None) -> None:
    one = resolved({"m": {"stable": 1, **entry}}, {"m": RUNNING}, m=[1, 2, 3])
    assert one.memory["m"].salt == salt


def test_file_without_entries_is_refused_once_there_was_one() -> None:
    assert stable(resolved({}, {"m": RememberedRelease(1, configured=False)}, m=[1, 2])) == {"m": 1}
    with pytest.raises(SettingsError, match=r"models: every entry is gone; .*: m: \{stable: 1\}, n: \{stable: 4\}"):
        resolved({}, {"m": RememberedRelease(1), "n": RememberedRelease(4)}, m=[1, 2])


@pytest.mark.parametrize("content", [b"", b"\n", b"# only this\n---\n...\n", b"\xef\xbb\xbf", b"models: {}\n", b"{}"])
def test_empty_file_is_refused_where_entries_are_remembered(content: bytes) -> None:
    known = ResolveInput({"m": RememberedRelease(1)}, {"m": [1, 2]})
    with pytest.raises(SettingsError, match="stable alone"):
        validate(content, parse_accepted(b"models: {m: {stable: 1}}"), known, "routing.yaml")
    _, fresh = validate(content, parse_accepted(None), ResolveInput({}, {"m": [1, 2]}), "routing.yaml")
    assert stable(fresh) == {"m": 2}
    assert "its highest now" in fresh.notes["m"][0], "check warns of it"


def test_missing_model_stays_served_if_loaded_and_remembered_if_not() -> None:
    memory = {"m": RememberedRelease(1, configured=False)}
    assert stable(resolved({}, memory, loaded=["m"])) == {"m": 1}
    away = resolved({}, memory)
    assert (stable(away), away.memory) == ({}, memory)
    assert stable(resolved({}, away.memory, m=[1, 9])) == {"m": 1}


def test_closed_serves_remembered_stables_without_candidates() -> None:
    memory = {"m": RUNNING, "n": RememberedRelease(3, configured=False), "away": RememberedRelease(5, configured=False)}
    shut = candidates_closed(memory, ResolveInput(memory, {"m": [1, 2], "n": [3, 4]}))
    assert stable(shut) == {"m": 1, "n": 3}
    assert all(release.candidate is None for release in shut.routing.models.values())
    assert (shut.configured, shut.memory) == (frozenset({"m"}), memory)


def undo_of(one: ResolvedRouting) -> UndoPoint | None:
    return one.memory["m"].undo


def test_promotion_can_be_undone_until_another_version_is_named() -> None:
    promoted = resolved({"m": {"stable": 2}}, {"m": RememberedRelease(1, 2)}, m=[1, 2])
    point = undo_of(promoted)
    assert point is not None
    assert (point.stable, point.edited) == (1, False)
    assert undo_of(resolved({"m": {"stable": 2}, "n": {"stable": 1}}, promoted.memory, m=[1, 2])) == point
    for later in ({"stable": 2, "candidate": 3}, {"stable": 3}, {"stable": 1}):
        assert undo_of(resolved({"m": later}, promoted.memory, m=[1, 2])) is None


def test_manual_edit_after_the_promotion_is_noted_until_it_is_reverted() -> None:
    promoted = resolved({"m": {"stable": 2}}, {"m": RememberedRelease(1, 2)}, m=[1, 2])
    edited = resolved({"m": {"stable": 2, "rescue": {"timeout": "2s"}}}, promoted.memory, m=[1, 2])
    point = undo_of(edited)
    assert point is not None
    assert point.edited
    assert undo_of(resolved({"m": {"stable": 2}}, edited.memory, m=[1, 2])) == undo_of(promoted)


def test_first_entry_and_another_stable_are_no_promotion() -> None:
    assert undo_of(resolved({"m": {"stable": 2}}, m=[1, 2])) is None
    assert undo_of(resolved({"m": {"stable": 3}}, {"m": RememberedRelease(1, 2)}, m=[1, 2, 3])) is None
