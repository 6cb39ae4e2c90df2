"""Versions that come late are loaded if that is still needed when their turn comes."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.control.config.load_requests import LoadRequestContext, LoadRequestHandler
from gateway.control.release.decisions import DecisionLog
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
        self.decision_log: DecisionLog | None = None
        self.served = {"m": SimpleNamespace(stable=1)}


class _Handler(LoadRequestHandler):
    """Its loads are noted instead, and refused with `error`."""

    def __init__(self, control: _Control, changing: asyncio.Lock) -> None:
        super().__init__(cast(LoadRequestContext, control), changing)
        self.loads: list[int | None] = []
        self.error = ""
        self.digests: dict[str, str] = {}
        self.control = control

    async def _load(self, name: str, candidate: int | None) -> dict[str, str]:
        self.loads.append(candidate)
        if self.error:
            raise InvalidRequest(self.error)
        self.control.runs_on.update({STABLE: 0, CANDIDATE: 0})
        return self.digests


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


def test_late_load_is_recorded_as_the_gateway_s(tmp_path: Path) -> None:
    async def scenario() -> None:
        control = _Control()
        control.decision_log = log = DecisionLog(tmp_path)
        handler = _Handler(control, asyncio.Lock())
        handler.digests = {"1": "a" * 64, "2": ""}
        handler.load_late({CANDIDATE})
        await ended(handler)
        (said,) = log.decisions
        assert (said.model, said.candidate, said.action, said.by) == ("m", 2, "load", "gateway")
        assert said.reason == (
            f"loaded from disk: 1 ({'a' * 12}) and 2, since version 2 could not be when it was to be served"
        )
        assert said.evidence == {"sha256": handler.digests}
        log.close()

    asyncio.run(scenario())
