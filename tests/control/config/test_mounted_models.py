"""Mounted models are linked into the repository at each start, beside what was proposed there."""

import os
import shutil
from pathlib import Path

import orjson
import pytest
from onnxruntime import InferenceSession

from gateway.backends.digest import digest_of
from gateway.backends.repository import Repository
from gateway.control.config.memory import ReleaseMemoryFile
from gateway.control.config.mounted_memory import numbers_mounted
from gateway.control.config.mounted_models import LinkedModels, create_repository, link_mounted
from gateway.control.config.startup import open_mounted
from gateway.control.release.decisions import DecisionLog
from gateway.errors import SettingsError
from gateway.settings.fleet import FleetSettings
from gateway.settings.gateway import GatewaySettings, ModelsSettings, MountedSettings
from gateway.settings.routing import RoutingSettings
from tests.backends.test_digest import scaling

MODELS = Path(__file__).parents[3] / "models"
ONE, TWO = (MODELS / "digits" / version / "model.onnx" for version in "12")


def mounted(tmp_path: Path, version: int = 1, **files: Path) -> GatewaySettings:
    """Settings with a mounted folder that holds just these files; a key is a path, with `__` for a slash."""
    mount = tmp_path / "mnt"
    shutil.rmtree(mount, ignore_errors=True)
    for name, source in files.items():
        file = mount / f"{name.replace('__', '/')}.onnx"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, file)
    (tmp_path / "state").mkdir(exist_ok=True)
    models = ModelsSettings(
        path=str(tmp_path / "state/models"),
        mounted=MountedSettings(path=str(mount), name="digits", version=version),
    )
    return GatewaySettings(models=models, state=str(tmp_path / "state"), routing=str(tmp_path / "state/routing.yaml"))


def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "state/models")


def started(settings: GatewaySettings, *stopped: int) -> None:
    """What a start does with the mounted folder; `stopped`: versions of digits."""
    create_repository(settings)
    log = DecisionLog(Path(settings.state))
    try:
        for version in stopped:
            log.stop("digits", version, "me", "bad", {})
        remembered = ReleaseMemoryFile(Path(settings.state)).read(RoutingSettings())
        open_mounted(settings, log, remembered)
    finally:
        log.close()


def linked(settings: GatewaySettings) -> LinkedModels:
    """What a start finds whose gateway is killed before it writes anything down."""
    create_repository(settings)
    return link_mounted(settings)


def decisions(tmp_path: Path) -> list[tuple[str, int, str]]:
    lines = map(orjson.loads, (tmp_path / "state/decisions.jsonl").read_bytes().splitlines())
    return [(line["action"], line["candidate"], line["reason"]) for line in lines]


def propose(tmp_path: Path, version: int, source: Path) -> None:
    folder = tmp_path / "state/models/digits" / str(version)
    folder.mkdir(parents=True)
    shutil.copy(source, folder / "model.onnx")


def test_bare_model_is_version_one(tmp_path: Path) -> None:
    settings = mounted(tmp_path, model=ONE)
    (tmp_path / "mnt/model.yaml").write_text("modality: image\n")
    assert linked(settings).versions == {"digits": [1]}
    assert repository(tmp_path).names() == ["digits"]
    assert digest_of(repository(tmp_path).model_file("digits", 1)) == digest_of(ONE)
    assert repository(tmp_path).settings("digits").modality == "image"
    assert repository(tmp_path).unserved_entries() == []
    before = os.lstat(tmp_path / "state/models/digits/1")
    linked(settings)
    assert os.lstat(tmp_path / "state/models/digits/1") == before, "a link that is right stays"


def test_file_of_another_name_with_external_weights(tmp_path: Path) -> None:
    settings = mounted(tmp_path)
    (tmp_path / "mnt").mkdir()
    scaling(tmp_path / "mnt/any.onnx", 2, "any.data")
    for beside in ("training.json", "notes.txt", "model.onnx.zip"):
        (tmp_path / "mnt" / beside).touch()
    linked(settings)
    linked(settings)
    file = repository(tmp_path).model_file("digits", 1)
    assert InferenceSession(file).get_inputs()[0].name == "x"
    assert repository(tmp_path).unserved_entries() == []
    assert sorted(os.listdir(file.parent)) == ["any.data", "model.onnx", "training.json"], "not whatever lies there"
    (tmp_path / "mnt/any.onnx").rename(tmp_path / "mnt/model.onnx")
    linked(settings)
    assert os.listdir(tmp_path / "state/models/digits") == ["1"], "nothing is left of the other name"


def test_versions_that_have_gone_are_not_linked_any_more(tmp_path: Path) -> None:
    linked(mounted(tmp_path, **{"1__model": ONE, "2__any": TWO}))
    assert repository(tmp_path).versions("digits") == [1, 2]
    assert linked(mounted(tmp_path, **{"3__model": ONE})).versions == {"digits": [3]}
    assert repository(tmp_path).versions("digits") == [3]
    assert sorted(os.listdir(tmp_path / "state/models/digits")) == ["3"]
    started(mounted(tmp_path, tumor__1__any=ONE))
    linked(mounted(tmp_path, iris__1__any=ONE))
    assert os.listdir(tmp_path / "state/models") == ["iris"], "no folder without a version stays"


def test_replaced_file_is_told_and_recorded_once(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    started(mounted(tmp_path, model=ONE))
    (replaced,) = linked(mounted(tmp_path, model=TWO)).replaced
    assert (replaced.key, replaced.before, replaced.now) == (("digits", 1), digest_of(ONE), digest_of(TWO))
    started(mounted(tmp_path, model=TWO))
    started(mounted(tmp_path, model=TWO))
    ((action, number, reason),) = decisions(tmp_path)
    assert (action, number) == ("mounted", 1)
    assert f"{digest_of(ONE)[:12]} -> {digest_of(TWO)[:12]}" in reason and "start over" in reason


def test_replaced_file_is_told_by_the_start_after_one_that_was_killed(tmp_path: Path) -> None:
    ramps = tmp_path / "state/ramps.json"
    started(mounted(tmp_path, model=ONE))
    ramps.write_bytes(orjson.dumps({"digits": {"versions": [1, 2]}, "tumor": {"versions": [1, 2]}}))
    linked(mounted(tmp_path, model=TWO))
    started(mounted(tmp_path, model=TWO))
    assert list(orjson.loads(ramps.read_bytes())) == ["tumor"]
    assert [action for action, *_ in decisions(tmp_path)] == ["mounted"]


def test_fleet_s_evidence_goes_on_and_the_history_says_so(tmp_path: Path) -> None:
    fleet = FleetSettings.model_validate({"store": "redis://store"})
    started(mounted(tmp_path, model=ONE))
    started(mounted(tmp_path, model=TWO).model_copy(update={"fleet": fleet}))
    ((_, _, reason),) = decisions(tmp_path)
    assert "evidence and ramp go on, as the fleet has them" in reason


def test_replaced_file_under_a_new_number_is_another_version(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    found = linked(mounted(tmp_path, 2, model=TWO))
    assert (found.versions, found.replaced) == ({"digits": [2]}, ())


def test_numbers_that_were_mounted_once_are_taken(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    started(mounted(tmp_path, 4, model=TWO))
    assert numbers_mounted(tmp_path / "state", "digits") == [1, 4]
    assert numbers_mounted(tmp_path / "state", "tumor") == []


def test_version_in_the_repository_is_not_compared_with_what_was_mounted_before_it(tmp_path: Path) -> None:
    started(mounted(tmp_path, **{"1__model": ONE, "2__model": ONE}))
    Path(tmp_path / "state/routing.yaml").write_text("models: {digits: {stable: 1}}")
    started(mounted(tmp_path, **{"1__model": ONE}))
    propose(tmp_path, 2, TWO)
    started(mounted(tmp_path, **{"1__model": ONE}))
    assert linked(mounted(tmp_path, **{"1__model": ONE, "2__model": TWO})).replaced == ()


def test_proposed_version_stays_beside_and_before_the_mounted_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started(mounted(tmp_path, model=ONE))
    propose(tmp_path, 2, TWO)
    found = linked(mounted(tmp_path, **{"1__model": ONE, "2__model": TWO}))
    assert repository(tmp_path).versions("digits") == [1, 2]
    assert not (tmp_path / "state/models/digits/2").is_symlink()
    assert caplog.messages == [], "the same model, brought to the mounted folder after its promotion"
    assert found.versions == {"digits": [1, 2]}
    found = linked(mounted(tmp_path, **{"1__model": ONE, "2__model": ONE}))
    assert digest_of(repository(tmp_path).model_file("digits", 2)) == digest_of(TWO)
    assert found.versions == {"digits": [1]}, "2 is not what is mounted"
    assert "is another model: number it otherwise" in caplog.text
    linked(mounted(tmp_path, **{"2__any": ONE}))
    assert os.listdir(tmp_path / "state/models/digits") == ["2"]


def test_another_server_s_version_is_compared_by_its_file(tmp_path: Path) -> None:
    settings = mounted(tmp_path, **{"1__model": ONE})
    for folder, text in {"mnt/2": "url: http://a", "state/models/digits/2": "url: http://b"}.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "remote.yaml").write_text(text)
    assert linked(settings).versions == {"digits": [1]}
    (tmp_path / "state/models/digits/2/remote.yaml").write_text("url: http://a")
    assert linked(settings).versions == {"digits": [1, 2]}


@pytest.mark.parametrize("target", ["", "/nowhere"])
def test_number_that_is_taken_by_nothing_that_is_served_is_told(tmp_path: Path, target: str) -> None:
    settings, taken = mounted(tmp_path, model=ONE), tmp_path / "state/models/digits/1"
    taken.parent.mkdir(parents=True)
    taken.symlink_to(target) if target else taken.mkdir()
    with pytest.raises(SettingsError, match=rf"models\.mounted: {taken}/?.*; remove {taken}, and .* is served"):
        started(settings)


def test_removed_links_are_told_even_those_that_an_operator_has_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = mounted(tmp_path, **{"1__model": ONE, ".archive__7__model": TWO})
    link = tmp_path / "state/models/digits/7"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "mnt/.archive/7")
    linked(settings)
    assert f"{link}, a link to {tmp_path}/mnt/.archive/7, is removed" in caplog.text


@pytest.mark.parametrize("name", ["model", "any"])
def test_link_of_a_killed_start_is_recognized(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    linked(mounted(tmp_path, **{name: ONE}))
    linked(mounted(tmp_path, 2, **{name: TWO}))
    assert repository(tmp_path).versions("digits") == [2]
    linked(mounted(tmp_path, 2, **{"2__other": ONE}))
    assert digest_of(repository(tmp_path).model_file("digits", 2)) == digest_of(ONE)


def test_damaged_memory_is_reported_and_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = mounted(tmp_path, model=ONE)
    for content in (b"", b"[]", b'{"links": {}, "sha256": {"digits": "x"}}', b'{"links": 1, "sha256": {}}'):
        (tmp_path / "state/mounted.json").write_bytes(content)
        caplog.clear()
        assert linked(settings).versions == {"digits": [1]}
        assert "is damaged" in caplog.text


@pytest.mark.parametrize("inside", ["mnt/models", ".", "mnt"])
def test_repository_must_lie_apart_from_the_mounted_folder(tmp_path: Path, inside: str) -> None:
    settings = mounted(tmp_path, model=ONE)
    models = settings.models.model_copy(update={"path": str(tmp_path / inside)})
    with pytest.raises(SettingsError, match="lie in each other"):
        create_repository(settings.model_copy(update={"models": models}))


def test_unwritable_repository_is_named(tmp_path: Path) -> None:
    settings = mounted(tmp_path, model=ONE)
    (tmp_path / "state/models").touch()
    with pytest.raises(SettingsError, match=r"models\.path: .*must be writable"):
        create_repository(settings)
