"""Models that are not served because the server of their stable version cannot be asked: from when, and until when."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.backends.remote.server import Server
from gateway.errors import ModelUnavailable, NotFound, ServerUnreachable, SettingsError
from gateway.settings.routing import RoutingSettings
from gateway.worker.models import loader
from gateway.worker.models.catalog import ModelCatalog
from tests.backends.onnx_models import place
from tests.backends.remote_server import RawServer, raw_server
from tests.worker.models.test_catalog import ONE, on_a_loop, started_catalog


@asynccontextmanager
async def remote_catalog(models: Path) -> AsyncIterator[tuple[ModelCatalog, RawServer]]:
    """A catalog that started while the server of m's only version was away."""
    (models / "m" / "1").mkdir(parents=True)
    async with raw_server() as server:
        (models / "m" / "1" / "remote.yaml").write_text(f"url: {server.url}\n")
        server.ready = False
        async with started_catalog(models, m={"stable": 1}) as deployment:
            assert list(deployment.unreachable) == ["m"]
            yield deployment, server


@on_a_loop
async def test_model_is_unreachable_only_until_its_server_answers(tmp_path: Path) -> None:
    async with remote_catalog(tmp_path) as (deployment, server):
        server.ready = True
        await deployment.load("m")
        assert deployment.unreachable == {}
        await deployment.unload("m")
        assert deployment.unreachable == {}
        server.ready = False
        with pytest.raises(ServerUnreachable):
            await deployment.load("m")
        assert deployment.unreachable == {}  # a client has unloaded it, and no load has succeeded since
        assert deployment.unavailable() == {}


@on_a_loop
async def test_unreachable_model_can_be_unloaded(tmp_path: Path) -> None:
    async with remote_catalog(tmp_path) as (deployment, _):
        await deployment.unload("m")
        assert (deployment.unreachable, deployment.unavailable()) == ({}, {})
        with pytest.raises(NotFound):
            await deployment.unload("m")


@on_a_loop
async def test_failed_load_keeps_or_replaces_the_reason(tmp_path: Path) -> None:
    async with remote_catalog(tmp_path) as (deployment, _):
        with pytest.raises(ServerUnreachable):
            await deployment.load("m")
        assert list(deployment.unreachable) == ["m"]
        assert list(deployment.unavailable()) == [("m", 1)]  # so control asks again
        (tmp_path / "m" / "1" / "remote.yaml").write_text("url: 7\n")
        with pytest.raises(SettingsError):
            await deployment.load("m")
        assert deployment.unreachable == {}
        assert "url" in deployment.unavailable()["m", 1]


@on_a_loop
async def test_unreachable_models_are_those_of_the_routing_in_force(tmp_path: Path) -> None:
    place(tmp_path, "here", 1, ONE)
    async with remote_catalog(tmp_path) as (deployment, server):
        without = RoutingSettings.model_validate({"models": {"here": {"stable": 1}}})
        await deployment.prepare(without, 2)
        deployment.discard()
        assert list(deployment.unreachable) == ["m"]
        await deployment.prepare(without, 3)
        deployment.commit()
        assert deployment.unreachable == {}
        both = RoutingSettings.model_validate({"models": {"here": {"stable": 1}, "m": {"stable": 1}}})
        await deployment.prepare(both, 4)
        deployment.discard()
        assert deployment.unreachable == {}
        broken = RoutingSettings.model_validate({"models": {"m": {"stable": 1}, "none": {"stable": 1}}})
        with pytest.raises(ModelUnavailable):
            await deployment.prepare(broken, 5)
        assert deployment.unreachable == {}
        await deployment.prepare(both, 6)
        deployment.commit()
        assert list(deployment.unreachable) == ["m"]
        server.ready = True
        await deployment.prepare(both, 7)
        deployment.commit()
        assert deployment.unreachable == {}


@on_a_loop
async def test_files_of_a_remote_version_are_not_read_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def made(name: str, file: Path) -> Server:
        threads.append(threading.current_thread())
        return Server(name, file)

    async with remote_catalog(tmp_path) as (deployment, server):
        monkeypatch.setattr(loader, "Server", made)
        server.ready = True
        await deployment.load("m")
        assert threads and threading.main_thread() not in threads
