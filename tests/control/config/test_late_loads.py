"""Versions that come late are loaded if that is still needed when their turn comes."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.control.config.load_requests import LoadRequestContext, LoadRequestHandler
from gateway.errors import InvalidRequest
from gateway.messages import LoadRequest
from gateway.version_key import VersionKey

STABLE, CANDIDATE = ("m", 1), ("m", 2)


class _Control:
    """Two workers; `runs_on`: what they serve."""

    def __init__(self) -> None:
        self.runs_on: dict[VersionKey, Any] = {}
        handles = [SimpleNamespace(runs_on={STABLE: 0, CANDIDATE: 0}), SimpleNamespace(runs_on=self.runs_on)]
        config = SimpleNamespace(versions={STABLE: 0, CANDIDATE: 1}, unloaded=frozenset[str]())
        self.pool = SimpleNamespace(config=config, accepting_handles=lambda: handles)


class _Handler(LoadRequestHandler):
    """Its loads are noted instead, and refused with `error`."""

    def __init__(self, control: _Control, changing: asyncio.Lock) -> None:
        super().__init__(cast(LoadRequestContext, control), changing)
        self.loads: list[int | None] = []
        self.error = ""
        self.control = control

    async def _load(self, name: str, candidate: int | None) -> None:
        self.loads.append(candidate)
        if self.error:
            raise InvalidRequest(self.error)
        self.control.runs_on.update({STABLE: 0, CANDIDATE: 0})


async def ended(handler: _Handler) -> None:
    await asyncio.wait_for(asyncio.gather(*handler._late_tasks), 30)
    assert handler.late == []


def test_one_load_serves_all_that_wait_for_it() -> None:
    async def scenario() -> None:
        control, changing = _Control(), asyncio.Lock()
        handler = _Handler(control, changing)
        async with changing:  # an edit is being applied
            handler.load_late({STABLE, CANDIDATE})
            handler.load_late({STABLE})
            await asyncio.sleep(0)
            assert sorted(handler.late) == [STABLE, STABLE, CANDIDATE]
        await ended(handler)
        assert handler.loads == [1]

    asyncio.run(scenario())


@pytest.mark.parametrize("reason", ["unloaded", "not in the routing"])
def test_version_that_is_no_longer_wanted_is_not_loaded(reason: str) -> None:
    async def scenario() -> None:
        control = _Control()
        if reason == "unloaded":
            control.pool.config.unloaded = frozenset({"m"})
        else:
            control.pool.config.versions = {STABLE: 0}
        handler = _Handler(control, asyncio.Lock())
        handler.load_late({CANDIDATE})
        await ended(handler)
        assert handler.loads == []

    asyncio.run(scenario())


def test_failure_is_logged_of_any_version(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        handler = _Handler(_Control(), asyncio.Lock())
        handler.error = "it has no inputs"
        handler.load_late({STABLE})
        await ended(handler)

    asyncio.run(scenario())
    assert "version 1 of 'm' is still not served, because it cannot be loaded: it has no inputs" in caplog.text


def test_client_s_load_is_always_executed() -> None:
    async def scenario() -> None:
        control = _Control()
        control.runs_on.update({STABLE: 0, CANDIDATE: 0})
        handler = _Handler(control, asyncio.Lock())
        assert await handler.handle(LoadRequest(0, "m", load=True)) == ""
        assert handler.loads == [None]

    asyncio.run(scenario())
