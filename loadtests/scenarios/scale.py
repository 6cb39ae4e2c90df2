"""Two workers against one, on the cores that there are, which wrk shares."""

from pathlib import Path

from loadtests import models, servers
from loadtests.report import Line, report
from loadtests.scenarios.overhead import LOAD, ROUTING
from loadtests.wrk import measure

CONNECTIONS = 64


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Both gateways run all the time and are measured in turn; an idle one costs next to nothing."""
    models.tiny(folder / "models")
    one: list[float] = []
    two: list[float] = []
    with (
        servers.fleet(folder / "one", folder / "models", ROUTING, workers=1) as single,
        servers.fleet(folder / "two", folder / "models", ROUTING, workers=2) as double,
    ):
        for _ in range(rounds):
            for running, found in ((single, one), (double, two)):
                url = f"http://127.0.0.1:{running.address[1]}/v2/models/tiny/infer"
                found.append(measure(url, LOAD, CONNECTIONS, seconds, pinned=False).per_s)
    return report("scale", [Line(f"{CONNECTIONS} connections, requests", "/s", one, two, 1.3, True)])
