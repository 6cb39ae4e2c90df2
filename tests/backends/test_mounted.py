"""Which models a mounted folder holds, by its layout."""

from pathlib import Path

import pytest

from gateway.backends.mounted import find_mounted
from gateway.errors import SettingsError
from gateway.settings.gateway import MountedSettings

LAYOUTS = [
    (["model.onnx"], {"digits": {1: "model.onnx"}}),
    (["model.onnx", "weights.bin", "model.yaml", "config.json"], {"digits": {1: "model.onnx"}}),
    (["digits.onnx", "digits.onnx.data"], {"digits": {1: "digits.onnx"}}),
    (["model.onnx", "model_fp16.onnx"], {"digits": {1: "model.onnx"}}),
    (["remote.yaml"], {"digits": {1: "remote.yaml"}}),
    (["archive/model.onnx", "archive/labels.txt"], {"digits": {1: "archive/model.onnx"}}),
    (["config.json", "onnx/model.onnx", "onnx/model_int8.onnx"], {"digits": {1: "onnx/model.onnx"}}),
    (["1/model.onnx"], {"digits": {1: "1/model.onnx"}}),
    (["9/model.onnx", "10/model.onnx", "config.pbtxt"], {"digits": {9: "9/model.onnx", 10: "10/model.onnx"}}),
    (["7/anything.onnx"], {"digits": {7: "7/anything.onnx"}}),
    (["1/model.onnx", "2/saved_model.pb", "03/model.onnx"], {"digits": {1: "1/model.onnx"}}),
    (["densenet/1/model.onnx", "README.md"], {"densenet": {1: "densenet/1/model.onnx"}}),
    (["a/1/model.onnx", "b/2/model.onnx"], {"a": {1: "a/1/model.onnx"}, "b": {2: "b/2/model.onnx"}}),
    (["model.onnx", "lost+found/x.onnx", ".git/1/model.onnx", "notes/readme"], {"digits": {1: "model.onnx"}}),
]

REFUSED = [
    ([], "it is empty"),
    (["model.onnx", "2/model.onnx"], "holds both a model (model.onnx) and versions (2)"),
    (["1/model.onnx", "a/1/model.onnx"], "holds both versions (1) and models (a)"),
    (["a.onnx", "b.onnx"], "holds a.onnx, b.onnx; call the one to serve model.onnx"),
    (["1/a.onnx", "1/b.onnx"], "1 holds a.onnx, b.onnx; call the one to serve model.onnx"),
    (["a/model.onnx", "b/model.onnx"], "its folders a, b do: mount one of them"),
    (["model.pt"], "model.onnx is missing; model.pt is not ONNX: export it"),
    (["1/saved_model.pb"], "1/model.onnx is missing; saved_model.pb is not ONNX: export it"),
    (["my model/1/model.onnx"], "rename it, such as to my_model"),
    (["model.onnx/model.onnx/x"], "model.onnx is a folder"),
]


def laid_out(folder: Path, files: list[str]) -> MountedSettings:
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return MountedSettings(path=str(folder), name="digits")


@pytest.mark.parametrize(("files", "models"), LAYOUTS, ids=lambda value: ",".join(value))
def test_models_of_a_layout(tmp_path: Path, files: list[str], models: dict[str, dict[int, str]]) -> None:
    found = find_mounted(laid_out(tmp_path / "mnt", files))
    there = {
        model: {number: file.relative_to(tmp_path / "mnt").as_posix() for number, file in versions.items()}
        for model, versions in found.files.items()
    }
    assert there == models
    assert [list(versions) for versions in there.values()] == [sorted(versions) for versions in there.values()]


@pytest.mark.parametrize(
    ("files", "said"), REFUSED, ids=lambda value: ",".join(value) if isinstance(value, list) else ""
)
def test_layout_that_is_refused(tmp_path: Path, files: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=r"models\.mounted: ") as refused:
        find_mounted(laid_out(tmp_path / "mnt", files))
    assert said in str(refused.value)


def test_version_of_a_model_without_one_is_the_settings(tmp_path: Path) -> None:
    settings = laid_out(tmp_path / "mnt", ["model.onnx"]).model_copy(update={"version": 7})
    assert list(find_mounted(settings).files["digits"]) == [7]


def test_model_yaml_lies_beside_the_model_or_its_versions(tmp_path: Path) -> None:
    assert find_mounted(laid_out(tmp_path / "bare", ["model.onnx"])).shared == {"digits": tmp_path / "bare"}
    assert find_mounted(laid_out(tmp_path / "many", ["a/1/model.onnx"])).shared == {"a": tmp_path / "many/a"}
    assert find_mounted(laid_out(tmp_path / "inner", ["a/model.onnx"])).shared == {"digits": tmp_path / "inner/a"}


def test_missing_folder_and_missing_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is the volume mounted"):
        find_mounted(MountedSettings(path=str(tmp_path / "none"), name="digits"))
    unnamed = laid_out(tmp_path / "mnt", ["model.onnx"]).model_copy(update={"name": None})
    with pytest.raises(SettingsError, match=r"models\.mounted\.name: .*--model-name"):
        find_mounted(unnamed)


def test_broken_link_is_no_model(tmp_path: Path) -> None:
    settings = laid_out(tmp_path / "mnt", [])
    (tmp_path / "mnt/model.onnx").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=r"is a link to .*nowhere"):
        find_mounted(settings)


@pytest.mark.parametrize(
    ("files", "loop", "models"),
    [
        (["model.onnx"], "beside", {"digits": [1]}),
        (["1/model.onnx"], "2", {"digits": [1]}),
        (["a/1/model.onnx"], "b", {"a": [1]}),
        (["a/1/model.onnx"], "a/2", {"a": [1]}),
        (["archive/model.onnx"], "a b", {"digits": [1]}),
    ],
)
def test_entry_that_cannot_be_read_is_left_out_and_named(
    tmp_path: Path, files: list[str], loop: str, models: dict[str, list[int]]
) -> None:
    settings, entry = laid_out(tmp_path / "mnt", files), tmp_path / "mnt" / loop
    entry.symlink_to(entry)
    found = find_mounted(settings)
    assert {model: list(versions) for model, versions in found.files.items()} == models
    (said,) = found.unread
    assert said.startswith(f"{entry} cannot be read: ")


def test_entry_that_cannot_be_read_is_named_if_there_is_nothing_else(tmp_path: Path) -> None:
    settings = laid_out(tmp_path / "mnt", [])
    (tmp_path / "mnt/model.onnx").symlink_to("model.onnx")
    with pytest.raises(SettingsError, match=r"holds no model that can be served: .*model\.onnx cannot be read"):
        find_mounted(settings)
