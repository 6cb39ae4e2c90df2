"""The routing file of mounted models is written at the first start, and follows versions and models that have gone."""

import logging
from pathlib import Path

import pytest

from gateway.control.config.memory import ReleaseMemoryFile, RememberedRelease
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import load_routing
from tests.control.config.test_mounted_models import ONE, TWO, linked, mounted, propose, started

CANDIDATE = "models: {digits: {stable: 1, candidate: 3, split: {routes: [{name: all, weight: 1}]}}}"


def versions(settings: GatewaySettings) -> dict[str, tuple[int, int | None]]:
    releases = load_routing(Path(settings.routing)).models
    return {name: (one.stable, one.candidate) for name, one in releases.items()}


def routed(tmp_path: Path, text: str, settings: GatewaySettings, *stopped: int) -> str:
    """The routing file after a start that found `text` in it."""
    file = Path(settings.routing)
    file.write_text(text)
    accept(tmp_path, text)
    started(settings, *stopped)
    return file.read_text()


def accept(tmp_path: Path, text: str = "") -> None:
    """What a start leaves that has served the routing file."""
    (tmp_path / "state/accepted.yaml").write_text(text)


def test_first_start_writes_the_routing_file(tmp_path: Path) -> None:
    settings = mounted(tmp_path, **{"1__model": ONE, "2__model": TWO})
    started(settings)
    assert versions(settings) == {"digits": (2, None)}


def test_first_start_names_no_stopped_version(tmp_path: Path) -> None:
    settings = mounted(tmp_path, **{"1__model": ONE, "2__model": TWO})
    started(settings, 2)
    assert versions(settings) == {"digits": (1, None)}
    Path(settings.routing).unlink()
    with pytest.raises(SettingsError, match="version 1 of 'digits' is stopped; number the new file otherwise"):
        started(settings, 1)


@pytest.mark.parametrize("name", ["on", "1e3", "null", "a.b", "-"])
def test_routing_file_of_a_name_that_yaml_reads_otherwise(tmp_path: Path, name: str) -> None:
    settings = mounted(tmp_path, model=ONE)
    named = settings.models.mounted.model_copy(update={"name": name})  # type: ignore[union-attr]
    settings = settings.model_copy(update={"models": settings.models.model_copy(update={"mounted": named})})
    started(settings)
    assert list(versions(settings)) == [name]


@pytest.mark.parametrize("kept", ["accepted.yaml", "releases.json"])
def test_missing_routing_file_is_not_written_over_what_is_remembered(tmp_path: Path, kept: str) -> None:
    settings = mounted(tmp_path, model=ONE)
    (tmp_path / "state" / kept).write_text("models: {digits: {stable: 1}}")
    started(settings)
    assert not Path(settings.routing).exists()


def test_routing_file_that_was_never_accepted_is_written_anew(tmp_path: Path) -> None:
    started(mounted(tmp_path, **{"1__model": ONE, "2__model": TWO}))
    settings = mounted(tmp_path, **{"1__model": ONE, "2__model": TWO, "3__model": ONE})
    started(settings)
    assert versions(settings) == {"digits": (3, None)}, "perhaps 2 cannot be loaded"
    Path(settings.routing).write_text(Path(settings.routing).read_text().replace("3", "1"))
    started(settings)
    assert versions(settings) == {"digits": (1, None)}, "somebody has decided"


def test_routing_file_that_was_accepted_stays(tmp_path: Path) -> None:
    started(mounted(tmp_path, **{"1__model": ONE}))
    accept(tmp_path)
    settings = mounted(tmp_path, **{"1__model": ONE, "2__model": TWO})
    started(settings)
    assert versions(settings) == {"digits": (1, None)}


def test_stable_version_that_has_gone_is_replaced_by_the_highest(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    settings = mounted(tmp_path, **{"3__model": ONE, "4__model": TWO})
    text = "models: # ours\n  digits: {stable: 1, ramp: {weights: [5]}}\n  tumor: {stable: 1}\n"
    assert routed(tmp_path, text, settings) == text.replace("digits: {stable: 1", "digits: {stable: 4")


def test_stopped_version_does_not_become_stable(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    text, settings = "models: {digits: {stable: 1}}", mounted(tmp_path, **{"3__model": ONE, "4__model": TWO})
    assert routed(tmp_path, text, settings, 4) == text.replace("1", "3")
    with pytest.raises(SettingsError, match=r"3 of 'digits' is stopped; number .*; version 4 of 'digits' is stopped"):
        routed(tmp_path, text, settings, 3)
    assert Path(settings.routing).read_text() == text


def test_stopped_proposal_does_not_become_stable_by_the_number_of_a_mounted_model(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    propose(tmp_path, 2, TWO)
    text, settings = "models: {digits: {stable: 1}}", mounted(tmp_path, 2, model=ONE)
    with pytest.raises(SettingsError, match=r"1 is not mounted .*, is another model: number it otherwise; or name a"):
        routed(tmp_path, text, settings)
    assert Path(settings.routing).read_text() == text
    assert routed(tmp_path, text, mounted(tmp_path, 2, model=TWO)) == text.replace("1", "2"), "it is the same model"


def test_candidate_does_not_become_stable_by_itself(tmp_path: Path) -> None:
    started(mounted(tmp_path, **{"1__model": ONE, "3__model": TWO}))
    settings = mounted(tmp_path, **{"3__model": TWO})
    with pytest.raises(SettingsError, match="candidate 3 is not made stable by that: mount version 1 again; or name"):
        routed(tmp_path, CANDIDATE, settings)
    assert Path(settings.routing).read_text() == CANDIDATE


@pytest.mark.parametrize(
    "text",
    [
        "models: {digits: {stable: 2}}",  # proposed
        "models: {digits: {stable: 7}}",  # never mounted: a mistake
        "models: {digits: {stable: [}",
        "models: {tumor: {stable: 1}}",
        "",
    ],
)
def test_routing_file_stays_as_it_is(tmp_path: Path, text: str) -> None:
    started(mounted(tmp_path, model=ONE))
    propose(tmp_path, 2, TWO)
    assert routed(tmp_path, text, mounted(tmp_path, 3, model=ONE)) == text


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("models:\n  tumor: {stable: 1}\n  # ours\n  digits:\n    stable: 1\n", "models:\n  # ours\n  digits:\n"),
        ("models: {digits: {stable: 1}, tumor: {stable: 1}}\n", "models: {digits: {stable: 1}}\n"),
    ],
)
def test_model_that_has_gone_is_not_served_and_the_others_are(tmp_path: Path, text: str, after: str) -> None:
    started(mounted(tmp_path, digits__1__model=ONE, tumor__1__model=ONE))
    settings = mounted(tmp_path, digits__1__model=ONE)
    assert linked(settings).versions == {"digits": [1]}  # killed
    assert routed(tmp_path, text, settings).startswith(after)
    assert versions(settings) == {"digits": (1, None)}


def test_routing_file_of_models_that_have_all_gone_names_those_that_came(tmp_path: Path) -> None:
    started(mounted(tmp_path, tumor__1__model=ONE))
    settings = mounted(tmp_path, digits__2__model=ONE)
    routed(tmp_path, "models: {tumor: {stable: 1}}", settings)
    assert versions(settings) == {"digits": (2, None)}


def test_model_that_has_gone_keeps_its_entry_if_a_candidate_or_a_proposal_is_left(tmp_path: Path) -> None:
    started(mounted(tmp_path, digits__1__model=ONE, tumor__1__model=ONE))
    settings = mounted(tmp_path, tumor__1__model=ONE)
    with pytest.raises(SettingsError, match="candidate 3 is not made stable by that"):
        routed(tmp_path, CANDIDATE, settings)
    propose(tmp_path, 2, TWO)
    with pytest.raises(SettingsError, match="version 2, which is in the repository, was never promoted; or name"):
        routed(tmp_path, "models: {digits: {stable: 1}, tumor: {stable: 1}}", settings)


def test_model_without_an_entry_gets_one_if_its_stable_version_has_gone(tmp_path: Path) -> None:
    started(mounted(tmp_path, digits__1__model=ONE, iris__1__model=ONE, tumor__1__model=ONE))
    remembered = {name: RememberedRelease(1, configured=False) for name in ("digits", "iris", "tumor")}
    ReleaseMemoryFile(tmp_path / "state").write(remembered, None)
    settings = mounted(tmp_path, digits__1__model=ONE, tumor__2__model=TWO)
    text = "models:\n  digits: {stable: 1}\n"
    assert routed(tmp_path, text, settings) == f"{text}  tumor:\n    stable: 2\n"


def test_nothing_follows_from_what_cannot_be_read(tmp_path: Path) -> None:
    started(mounted(tmp_path, digits__1__model=ONE, tumor__1__model=ONE))
    settings = mounted(tmp_path, tumor__1__model=ONE)
    (tmp_path / "mnt/digits").symlink_to("digits")
    with pytest.raises(SettingsError, match=r"mnt/digits cannot be read: .*: mount that again"):
        routed(tmp_path, "models: {digits: {stable: 1}, tumor: {stable: 1}}", settings)


def test_link_to_the_routing_file_stays(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    settings, kept = mounted(tmp_path, 2, model=TWO), tmp_path / "kept.yaml"
    Path(settings.routing).rename(kept)
    Path(settings.routing).symlink_to(kept)
    routed(tmp_path, "models: {digits: {stable: 1}}", settings)
    assert Path(settings.routing).is_symlink()
    assert versions(settings) == {"digits": (2, None)}


def test_mounted_version_that_is_not_served_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started(mounted(tmp_path, model=ONE))
    propose(tmp_path, 2, TWO)
    caplog.set_level(logging.WARNING)
    routed(tmp_path, "models: {digits: {stable: 2}}", mounted(tmp_path, model=ONE))
    assert "version 1 of 'digits' is mounted and not served" in caplog.text


def test_candidate_that_has_gone_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started(mounted(tmp_path, **{"1__model": ONE, "3__model": TWO}))
    settings = mounted(tmp_path, **{"1__model": ONE})
    assert routed(tmp_path, CANDIDATE, settings) == CANDIDATE
    assert f"version 3 of 'digits', candidate by {settings.routing}, is not mounted any more" in caplog.text
