"""The routing file as an order: that it is watched whatever becomes of the folders around it."""

import logging
from pathlib import Path

import pytest

from gateway.configuration import Configuration
from gateway.errors import SettingsError
from gateway.serving.repository import Repository
from gateway.settings.load import load_routing
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


def test_what_cannot_be_meant_is_logged_once_and_again_only_when_it_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models, routing = tmp_path / "models", tmp_path / "routing.yaml"
    onnx_models.doubling(models / "m" / "1" / "model.onnx")
    (models / "flat").mkdir()
    routing.write_text("models: {m: {stable: 1, candidate: 2}}")
    configuration = Configuration(routing, Repository(models))

    def told() -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            configuration.warn(load_routing(routing))
        return [record.getMessage() for record in caplog.records]

    warning = "models.m.candidate: version 2 gets no traffic: there is no route; add one under split.routes"
    flat = f"{models}/flat: holds no version; put one into flat/1/model.onnx"
    assert told() == [f"{routing}: {warning}", flat]
    assert configuration.status.warnings == (warning,)
    assert told() == []
    configuration.succeeded()
    assert configuration.status.warnings == (warning,)
    routing.write_text("models: {m: {stable: 1}}")
    assert told() == []
    assert configuration.status.warnings == ()
    routing.write_text("models: {m: {stable: 1, candidate: 2}}")
    (models / "vee" / "v1").mkdir(parents=True)
    assert told() == [
        f"{routing}: {warning}",
        f"{models}/vee/v1: is no version; a version's folder is a whole number from 1, such as 1",
    ]
