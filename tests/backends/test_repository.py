"""The model repository on disk: what counts as a model, and how anything else is reported."""

from pathlib import Path

import pytest

from gateway.backends.repository import Repository
from gateway.errors import ModelUnavailable, SettingsError
from gateway.settings.model import ModelSettings
from tests.backends import onnx_models
from tests.backends.onnx_models import place


def folders(root: Path, *names: str) -> Repository:
    for name in names:
        (root / name).mkdir(parents=True)
    return Repository(root)


def test_names_lists_folders_with_versions_sorted(tmp_path: Path) -> None:
    assert folders(tmp_path, "b/1", "a-2/3", "A.b_c/1", "9/1").names() == ["9", "A.b_c", "a-2", "b"]


@pytest.mark.parametrize("name", [".git", ".hidden", "two words", "ümlaut", "a@b", "a:b"])
def test_folder_with_an_invalid_name_is_no_model(tmp_path: Path, name: str) -> None:
    repository = folders(tmp_path, f"{name}/1", "model/1")
    assert repository.names() == ["model"]
    assert repository.versions(name) == []


def test_files_and_folders_without_versions_are_not_models(tmp_path: Path) -> None:
    (tmp_path / "readme").write_text("1")
    assert folders(tmp_path, "empty", "notes/drafts", "model/1").names() == ["model"]


@pytest.mark.parametrize("name", ["..", ".", "../model", "model/../model", "model/1", "/", "", "model\n", "model\0"])
def test_relative_path_is_not_accepted_as_a_model_name(tmp_path: Path, name: str) -> None:
    place(tmp_path, "model", 1, onnx_models.doubling)
    (tmp_path / "inner" / "2").mkdir(parents=True)
    for repository in (Repository(tmp_path), Repository(tmp_path / "inner")):
        assert repository.versions(name) == []
        with pytest.raises(ModelUnavailable, match="has no version 1"):
            repository.model_file(name, 1)


def test_absolute_path_is_not_accepted_as_a_model_name(tmp_path: Path) -> None:
    place(tmp_path / "elsewhere", "model", 1, onnx_models.doubling)
    repository = folders(tmp_path, "here")
    assert repository.versions(str(tmp_path / "elsewhere" / "model")) == []


def test_versions_are_sorted_numerically(tmp_path: Path) -> None:
    assert folders(tmp_path, "m/10", "m/9", "m/1", "m/100").versions("m") == [1, 9, 10, 100]


def test_versions_ignores_entries_that_are_not_plain_numbers(tmp_path: Path) -> None:
    repository = folders(tmp_path, "m/2", "m/0", "m/01", "m/-1", "m/+1", "m/1.0", "m/v1", "m/.1", "m/1_0", "m/٣")
    (tmp_path / "m" / "7").write_text("a file")
    assert repository.versions("m") == [2]


def test_names_and_versions_read_the_disk_on_every_call(tmp_path: Path) -> None:
    repository = folders(tmp_path, "m/1")
    folders(tmp_path, "m/2", "n/1")
    assert repository.names() == ["m", "n"]
    assert repository.versions("m") == [1, 2]


def test_missing_version_is_reported_with_the_existing_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        folders(tmp_path, "m/1", "m/3").model_file("m", 2)
    assert str(caught.value) == "model 'm' has no version 2; it has 1, 3"


def test_missing_model_is_reported_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        Repository(tmp_path).model_file("m", 2)
    assert str(caught.value) == f"model 'm' has no version 2; {tmp_path / 'm'} holds none"


def test_version_folder_without_a_model_file_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        folders(tmp_path, "m/1/model.onnx").model_file("m", 1)  # a folder of that name is no file
    assert str(caught.value).startswith(f"{tmp_path / 'm' / '1' / 'model.onnx'} is a folder; put the file model.onnx")


def test_model_file_returns_the_path_of_a_version(tmp_path: Path) -> None:
    file = place(tmp_path, "m", 12, onnx_models.doubling)
    assert Repository(tmp_path).model_file("m", 12) == file


@pytest.mark.parametrize("make", [lambda path: None, Path.touch])
def test_repository_path_that_is_not_a_folder_names_the_setting(tmp_path: Path, make: object) -> None:
    path = tmp_path / "models"
    assert callable(make)
    make(path)
    with pytest.raises(ModelUnavailable, match=r"is no folder; set models\.path") as caught:
        Repository(path)
    assert str(path) in str(caught.value)


def test_settings_come_from_model_yaml_or_are_the_defaults(tmp_path: Path) -> None:
    repository = folders(tmp_path, "m/1", "plain/1")
    (tmp_path / "m" / "model.yaml").write_text("modality: image\nthreads: 2\n")
    assert repository.settings("m") == ModelSettings(modality="image", threads=2)
    assert repository.settings("plain") == ModelSettings()


def test_mistake_in_model_yaml_names_the_file(tmp_path: Path) -> None:
    repository = folders(tmp_path, "m/1")
    file = tmp_path / "m" / "model.yaml"
    file.write_text("thread: 2\n")
    with pytest.raises(SettingsError, match="thread") as caught:
        repository.settings("m")
    assert str(caught.value).startswith(str(file))


def test_sample_is_warmup_json_beside_the_versions(tmp_path: Path) -> None:
    assert Repository(tmp_path).sample("m") == tmp_path / "m" / "warmup.json"
