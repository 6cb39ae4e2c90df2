"""Mounted models are linked into the repository at each start, beside what was proposed there."""

import logging
import os
import shutil
from pathlib import Path

import onnx
import orjson
import pytest
from onnxruntime import InferenceSession

from gateway.backends.digest import digest_of
from gateway.backends.repository import Repository
from gateway.control.config.mounted_models import link_mounted
from gateway.control.config.mounted_routing import prepare_routing
from gateway.control.release.decisions import DecisionLog
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings, ModelsSettings, MountedSettings
from gateway.settings.load import load_routing

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


def propose(tmp_path: Path, version: int, source: Path) -> None:
    folder = tmp_path / "state/models/digits" / str(version)
    folder.mkdir()
    shutil.copy(source, folder / "model.onnx")


def test_gateway_without_mounted_models_links_nothing(tmp_path: Path) -> None:
    settings = GatewaySettings(state=str(tmp_path), routing=str(tmp_path / "routing.yaml"))
    linked = link_mounted(settings)
    prepare_routing(settings, linked)
    assert linked.versions == {}
    assert list(tmp_path.iterdir()) == []


def test_bare_model_is_version_one(tmp_path: Path) -> None:
    settings = mounted(tmp_path, model=ONE)
    (tmp_path / "mnt/model.yaml").write_text("modality: image\n")
    assert link_mounted(settings).versions == {"digits": [1]}
    assert repository(tmp_path).names() == ["digits"]
    assert digest_of(repository(tmp_path).model_file("digits", 1)) == digest_of(ONE)
    assert repository(tmp_path).settings("digits").modality == "image"
    assert repository(tmp_path).unserved_entries() == []
    before = os.lstat(tmp_path / "state/models/digits/1")
    link_mounted(settings)
    assert os.lstat(tmp_path / "state/models/digits/1") == before, "a link that is right stays"


def test_file_of_another_name_with_external_weights(tmp_path: Path) -> None:
    settings = mounted(tmp_path)
    (tmp_path / "mnt").mkdir()
    model = onnx.load(ONE)
    onnx.save(model, tmp_path / "mnt/any.onnx", save_as_external_data=True, location="any.data", size_threshold=0)
    link_mounted(settings)
    link_mounted(settings)
    file = repository(tmp_path).model_file("digits", 1)
    assert InferenceSession(file).get_inputs()[0].name == "image"
    assert repository(tmp_path).unserved_entries() == []


def test_versions_that_have_gone_are_not_linked_any_more(tmp_path: Path) -> None:
    link_mounted(mounted(tmp_path, **{"1__model": ONE, "2__any": TWO}))
    assert repository(tmp_path).versions("digits") == [1, 2]
    assert link_mounted(mounted(tmp_path, **{"3__model": ONE})).versions == {"digits": [3]}
    assert repository(tmp_path).versions("digits") == [3]
    assert sorted(os.listdir(tmp_path / "state/models/digits")) == ["3"]


def test_replaced_file_is_told_and_recorded_once(tmp_path: Path) -> None:
    assert link_mounted(mounted(tmp_path, model=ONE)).replaced == ()
    assert link_mounted(mounted(tmp_path, model=ONE)).replaced == ()
    (replaced,) = link_mounted(mounted(tmp_path, model=TWO)).replaced
    assert (replaced.key, replaced.before, replaced.now) == (("digits", 1), digest_of(ONE), digest_of(TWO))
    assert link_mounted(mounted(tmp_path, model=TWO)).replaced == ()
    log = DecisionLog(tmp_path / "state")
    replaced.record(log)
    log.close()
    (line,) = map(orjson.loads, (tmp_path / "state/decisions.jsonl").read_bytes().splitlines())
    assert (line["model"], line["action"], line["evidence"]["sha256"]) == ("digits", "mounted", digest_of(TWO))


def test_replaced_file_under_a_new_number_is_another_version(tmp_path: Path) -> None:
    link_mounted(mounted(tmp_path, model=ONE))
    linked = link_mounted(mounted(tmp_path, 2, model=TWO))
    assert (linked.versions, linked.replaced) == ({"digits": [2]}, ())


def test_proposed_version_stays_beside_and_before_the_mounted_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link_mounted(mounted(tmp_path, model=ONE))
    propose(tmp_path, 2, TWO)
    link_mounted(mounted(tmp_path, **{"1__model": ONE, "2__model": TWO}))
    assert repository(tmp_path).versions("digits") == [1, 2]
    assert not (tmp_path / "state/models/digits/2").is_symlink()
    assert caplog.messages == [], "the same model, brought to the mounted folder after its promotion"
    link_mounted(mounted(tmp_path, **{"1__model": ONE, "2__model": ONE}))
    assert digest_of(repository(tmp_path).model_file("digits", 2)) == digest_of(TWO)
    assert "is another model: number it otherwise" in caplog.text
    link_mounted(mounted(tmp_path, **{"2__any": ONE}))
    assert os.listdir(tmp_path / "state/models/digits") == ["2"]


@pytest.mark.parametrize("name", ["model", "any"])
def test_link_of_a_killed_start_is_recognized(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    link_mounted(mounted(tmp_path, **{name: ONE}))
    (tmp_path / "state/mounted.json").unlink()
    link_mounted(mounted(tmp_path, 2, **{name: TWO}))
    assert repository(tmp_path).versions("digits") == [2]
    (tmp_path / "state/mounted.json").unlink()
    link_mounted(mounted(tmp_path, 2, **{"2__other": ONE}))
    assert digest_of(repository(tmp_path).model_file("digits", 2)) == digest_of(ONE)
    assert caplog.messages == []


def test_damaged_memory_is_reported_and_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = mounted(tmp_path, model=ONE)
    for content in (b"", b"[]", b'{"links": {}, "sha256": {"digits": "x"}}', b'{"links": 1, "sha256": {}}'):
        (tmp_path / "state/mounted.json").write_bytes(content)
        caplog.clear()
        assert link_mounted(settings).versions == {"digits": [1]}
        assert "is damaged" in caplog.text


@pytest.mark.parametrize("inside", ["mnt/models", ".", "mnt"])
def test_repository_must_lie_apart_from_the_mounted_folder(tmp_path: Path, inside: str) -> None:
    settings = mounted(tmp_path, model=ONE)
    models = settings.models.model_copy(update={"path": str(tmp_path / inside)})
    with pytest.raises(SettingsError, match="lie in each other"):
        link_mounted(settings.model_copy(update={"models": models}))


def test_unwritable_repository_is_named(tmp_path: Path) -> None:
    settings = mounted(tmp_path, model=ONE)
    (tmp_path / "state/models").touch()
    with pytest.raises(SettingsError, match=r"models\.path: .*must be writable"):
        link_mounted(settings)


def test_first_start_writes_the_routing_file(tmp_path: Path) -> None:
    settings = mounted(tmp_path, **{"1__model": ONE, "2__model": TWO})
    prepare_routing(settings, link_mounted(settings))
    releases = load_routing(Path(settings.routing)).models
    assert {name: (one.stable, one.candidate) for name, one in releases.items()} == {"digits": (2, None)}


@pytest.mark.parametrize("name", ["on", "1e3", "null", "a.b", "-"])
def test_routing_file_of_a_name_that_yaml_reads_otherwise(tmp_path: Path, name: str) -> None:
    settings = mounted(tmp_path, model=ONE)
    named = settings.models.mounted.model_copy(update={"name": name})  # type: ignore[union-attr]
    settings = settings.model_copy(update={"models": settings.models.model_copy(update={"mounted": named})})
    prepare_routing(settings, link_mounted(settings))
    assert list(load_routing(Path(settings.routing)).models) == [name]


def test_missing_routing_file_is_not_written_over_what_is_remembered(tmp_path: Path) -> None:
    settings = mounted(tmp_path, model=ONE)
    (tmp_path / "state/accepted.yaml").write_text("models: {digits: {stable: 1}}")
    prepare_routing(settings, link_mounted(settings))
    assert not Path(settings.routing).exists()


def routed(tmp_path: Path, text: str, settings: GatewaySettings) -> str:
    """The routing file after a start that found `text` in it."""
    file = Path(settings.routing)
    file.write_text(text)
    prepare_routing(settings, link_mounted(settings))
    return file.read_text()


def test_stable_version_that_has_gone_is_replaced_by_the_highest(tmp_path: Path) -> None:
    settings = mounted(tmp_path, **{"3__model": ONE, "4__model": TWO})
    text = "models: # ours\n  digits: {stable: 1, ramp: {weights: [5]}}\n  tumor: {stable: 1}\n"
    assert routed(tmp_path, text, settings) == text.replace("digits: {stable: 1", "digits: {stable: 4")


@pytest.mark.parametrize(
    "text",
    [
        "models: {digits: {stable: 2}}",  # proposed
        "models: {digits: {stable: 1, candidate: 3, split: {routes: [{name: all, weight: 1}]}}}",  # may be stopped
        "models: {digits: {stable: [}",
        "models: {tumor: {stable: 1}}",
        "",
    ],
)
def test_routing_file_stays_as_it_is(tmp_path: Path, text: str) -> None:
    link_mounted(mounted(tmp_path, model=ONE))
    propose(tmp_path, 2, TWO)
    assert routed(tmp_path, text, mounted(tmp_path, 3, model=ONE)) == text


def test_mounted_version_that_is_not_served_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    link_mounted(mounted(tmp_path, model=ONE))
    propose(tmp_path, 2, TWO)
    caplog.set_level(logging.WARNING)
    routed(tmp_path, "models: {digits: {stable: 2}}", mounted(tmp_path, model=ONE))
    assert "version 1 of 'digits' is mounted and not served" in caplog.text
