"""The routing file as an order: that it is watched whatever becomes of the folders around it."""

from pathlib import Path

from gateway.configuration import Configuration
from gateway.errors import SettingsError
from gateway.serving.repository import Repository
from tests.serving import onnx_models


def test_edits_are_seen_while_the_models_are_gone_and_when_they_are_back(tmp_path: Path) -> None:
    models, routing = tmp_path / "models", tmp_path / "routing.yaml"
    onnx_models.doubling(models / "m" / "1" / "model.onnx")
    routing.write_text("models: {m: {stable: 1}}")
    configuration = Configuration(routing, Repository(models))
    models.rename(tmp_path / "elsewhere")
    configuration.read()
    configuration.failed(SettingsError(str(routing), ["the models are gone"]))
    assert not any(configuration.changed() for _ in range(3))
    (tmp_path / "elsewhere").rename(models)
    assert [configuration.changed() for _ in range(2)] == [False, True], "the same twice, then it counts"
