"""A version whose server comes late is told once, and again only for a reason."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.repository import Repository
from gateway.control.pool import remote_versions
from gateway.control.pool.remote_versions import AGAIN_S, RemoteVersions
from tests.backends.remote_server import RawServer, raw_server

KEY = ("m", 1)


class _Late:
    """The versions of a repository with one remote version, which is unavailable, and control's clock."""

    def __init__(self, models: Path, server: RawServer) -> None:
        self.now_s = 0.0
        self.server = server
        self.file = models / "m" / "1" / "remote.yaml"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(f"url: {server.url}\n")
        self.versions = RemoteVersions(Repository(models), lambda: self.now_s)

    async def told(self, *, loading: bool = False) -> bool:
        """Whether the version is told, after its server has been asked once more."""
        late = self.versions.take_late([KEY], [KEY] if loading else [])
        while self.versions._asking:
            await asyncio.sleep(0.001)
        return bool(late or self.versions.take_late([KEY], [KEY] if loading else []))


def scenario_of(scenario: Callable[[_Late], Coroutine[Any, Any, None]], models: Path) -> None:
    async def run() -> None:
        async with raw_server() as server:
            late = _Late(models, server)
            try:
                await asyncio.wait_for(scenario(late), 30)
            finally:
                late.versions.close()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_versions, "PAUSES_S", (0.0,))


def test_told_once_while_its_load_is_pending_and_long_after(tmp_path: Path) -> None:
    async def scenario(late: _Late) -> None:
        assert await late.told()
        for _ in range(3):
            late.now_s += AGAIN_S
            before = late.server.connections
            assert not await late.told(loading=True)
            assert late.server.connections == before  # nor is the server asked
        late.now_s += AGAIN_S - 1  # the load has ended, and it is unavailable still
        assert not await late.told()
        late.now_s += 1
        assert await late.told()

    scenario_of(scenario, tmp_path)


def test_told_again_once_its_server_was_away(tmp_path: Path) -> None:
    async def scenario(late: _Late) -> None:
        assert await late.told()
        assert not await late.told()
        late.server.ready = False
        assert not await late.told()
        late.server.ready = True
        assert await late.told()

    scenario_of(scenario, tmp_path)


def test_told_again_once_its_file_has_changed(tmp_path: Path) -> None:
    async def scenario(late: _Late) -> None:
        assert await late.told()
        assert not await late.told()
        late.file.write_text(f"url: {late.server.url}\nmodel: other\n")
        assert await late.told()
        assert not await late.told()

    scenario_of(scenario, tmp_path)


def test_told_again_if_it_was_available_meanwhile(tmp_path: Path) -> None:
    async def scenario(late: _Late) -> None:
        assert await late.told()
        assert late.versions.take_late([]) == set()
        assert await late.told()

    scenario_of(scenario, tmp_path)
