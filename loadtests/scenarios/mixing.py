"""A million calls of a version's process while both sides are killed and suspended: no answer is another call's.

`rounds` below 5: a tenth of the calls. Calls wait while the process is started again, which takes up to ten seconds.
"""

from pathlib import Path

import uvloop
from rich.console import Console

from gateway.backends.repository import Repository
from gateway.control.pool.version_processes import VersionProcesses
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing import RoutingSettings
from loadtests import models
from loadtests.mixing import Mixed, mixed
from loadtests.report import write

CALLS = 1_000_000
KILL_SHARE = 0.1
CANDIDATE = RoutingSettings.model_validate({"models": {"double": {"stable": 1, "candidate": 2}}})


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """One asker makes the calls; three others, who ask the same process, are killed and replaced."""
    models.doubling(folder / "models")
    calls = CALLS if rounds >= 5 else CALLS // 10
    deaths: list[str] = []
    found = uvloop.run(_mixed(folder / "models", calls, deaths))
    total = found.answered + found.failed
    met = not found.wrong and found.answered > 0
    Console().print(
        f"{total:,} calls: {found.answered:,} answered, each with its own bytes: {not found.wrong}; late or lost"
        f" {found.failed:,}; the process died {len(deaths)} times, {found.killed} askers were killed,"
        f" {found.suspensions} suspensions {found.wrong}"
    )
    write("mixing", {"calls": total, "answered": found.answered, "deaths": len(deaths), "met": met})
    return met


async def _mixed(repository: Path, calls: int, deaths: list[str]) -> Mixed:
    processes = VersionProcesses(
        Repository(repository), "loadtest", GatewaySettings(), lambda _, why: deaths.append(why)
    )
    try:
        sockets, failed = await processes.prepare(CANDIDATE)
        assert not failed, failed
        return await mixed(processes, sockets.versions["double", 2], calls, 11, KILL_SHARE)
    finally:
        await processes.close(10.0)
