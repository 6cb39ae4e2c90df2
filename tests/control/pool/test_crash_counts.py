"""Deaths of a candidate's process are counted until the candidate is stopped, whatever happens to a stop that waits."""

import asyncio
from typing import Any, cast

import pytest

from gateway.control.pool import crash_counts
from gateway.control.pool.crash_counts import CrashCounts
from gateway.control.pool.version_process import ProcessSpec, Role, VersionProcess
from gateway.settings.routing import ReleaseSettings

KEY = ("m", 2)


class _Process:
    spec = ProcessSpec(KEY, Role.CANDIDATE, True, None, None)


def _release(crashes: int) -> ReleaseSettings:
    split = {"routes": [{"name": "all", "weight": "100%"}]}
    guards = {"breaker": {"crashes": crashes}}
    return ReleaseSettings.model_validate({"stable": 1, "candidate": 2, "split": split, "guards": guards})


def test_deaths_count_on_after_a_stop_that_was_no_longer_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_counts, "NAMED_WITHIN_S", 0.001)
    stops: list[str] = []
    crashes, process = [1], cast(VersionProcess, _Process())

    def stop(name: str, number: int, by: str, reason: str, evidence: dict[str, Any]) -> None:
        stops.append(reason)

    async def scenario() -> None:
        counts = CrashCounts(stop, lambda _: 1, lambda _: _release(crashes[0]))
        counts.died(process, "died by SIGFPE")  # the stop waits for the name of the prediction
        crashes[0] = 2  # meanwhile an edit allows one more
        await asyncio.sleep(0.02)
        assert stops == []
        counts.died(process, "died by SIGFPE")
        await asyncio.sleep(0.02)
        assert len(stops) == 1

    asyncio.run(scenario())
