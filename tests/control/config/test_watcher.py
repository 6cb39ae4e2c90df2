"""Watching the routing file: edits are noticed whatever happens to the folders around it."""

import logging
from pathlib import Path

import pytest

from gateway.backends.repository import Repository
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.errors import SettingsError
from gateway.settings.load import load_routing
from tests.backends import onnx_models


def test_edit_is_seen_while_the_models_folder_is_missing_and_after(tmp_path: Path) -> None:
    models, routing = tmp_path / "models", tmp_path / "routing.yaml"
    onnx_models.doubling(models / "m" / "1" / "model.onnx")
    routing.write_text("models: {m: {stable: 1}}")
    configuration = RoutingFileWatcher(routing, Repository(models))
    models.rename(tmp_path / "elsewhere")
    configuration.read()
    configuration.record_failure(SettingsError(str(routing), ["the models are gone"]))
    assert not any(configuration.changed() for _ in range(3))
    (tmp_path / "elsewhere").rename(models)
    assert [configuration.changed() for _ in range(2)] == [False, True], "the same twice, then it counts"


def test_warning_is_logged_once_until_it_reappears(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models, routing = tmp_path / "models", tmp_path / "routing.yaml"
    onnx_models.doubling(models / "m" / "1" / "model.onnx")
    (models / "flat").mkdir()
    routing.write_text("models: {m: {stable: 1, candidate: 2}}")
    configuration = RoutingFileWatcher(routing, Repository(models))

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
    configuration.record_success()
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


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def watched(tmp_path: Path) -> tuple[Path, RoutingFileWatcher, Clock]:
    (tmp_path / "models").mkdir()
    routing, clock = tmp_path / "routing.yaml", Clock()
    routing.write_text("models: {}\n")
    return routing, RoutingFileWatcher(routing, Repository(tmp_path / "models"), clock), clock


def test_file_being_written_is_read_once_it_is_unchanged_for_a_while(tmp_path: Path) -> None:
    routing, configuration, clock = watched(tmp_path)
    for number in range(10):  # a line every 0.1 s
        with routing.open("a") as file:
            file.write(f"# {number}\n")
        assert not configuration.changed()
        clock.now_s += 0.1
    assert not configuration.changed()
    clock.now_s += 0.101
    assert configuration.changed()
    now = configuration.read(settled=True)
    assert now is not None
    assert now.content == routing.read_bytes()
    configuration.record_success()
    assert not configuration.changed()


def test_file_changed_between_check_and_read_is_not_read(tmp_path: Path) -> None:
    routing, configuration, clock = watched(tmp_path)
    routing.write_text("models: {} # one\n")
    assert not configuration.changed()
    clock.now_s += 0.25
    assert configuration.changed()
    routing.write_text("models: {} # two\n")
    assert configuration.read(settled=True) is None
    assert not configuration.changed()
    clock.now_s += 0.25
    assert configuration.changed()


def test_touched_file_is_no_edit(tmp_path: Path) -> None:
    routing, configuration, clock = watched(tmp_path)
    routing.touch()
    for _ in range(4):
        clock.now_s += 0.1
        assert not configuration.changed()


def test_unreadable_routing_file_is_reported_with_the_reason(tmp_path: Path) -> None:
    routing, configuration, clock = watched(tmp_path)
    routing.unlink()
    for make, says in (
        (lambda: None, "no such file"),
        (lambda: routing.symlink_to("nowhere"), "its link leads to nowhere"),
        (lambda: (routing.unlink(), routing.mkdir()), "Is a directory"),
    ):
        make()
        assert not configuration.changed()
        clock.now_s += 0.25
        assert configuration.changed(), says
        now = configuration.read(settled=True)
        assert now is not None
        with pytest.raises(SettingsError, match=says) as refused:
            now.content_or_raise(str(routing))
        configuration.record_failure(refused.value)
