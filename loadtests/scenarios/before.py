"""This checkout against another one (--checkout): throughput, latency and memory, measured in turn in one run."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from loadtests import models, servers
from loadtests.memory import proportional_mb
from loadtests.report import Line, report
from loadtests.rounds import alternate, line
from loadtests.scenarios.overhead import LOAD, ROUTING, SPREAD
from loadtests.servers import Started

WORSE = 0.02  # that much may be lost
HERE = Path(__file__).parents[2]
ISOLATION = "isolation: thread\n"  # checkouts of before process isolation knew no other and refuse the line

EXPLAIN = """
import runpy
try:
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)
except SystemExit as ended:
    assert not ended.code
print(*(line for line in open("/proc/self/status") if line.startswith("VmHWM")), end="")
"""


def run(folder: Path, rounds: int, seconds: int, checkout: Path | None = None) -> bool:
    """One worker with its control process on one processor, wrk on the other, as in `overhead`."""
    if checkout is None:
        raise click.UsageError("--checkout is missing: the folder of another checkout, say of `git worktree add`")
    checkouts = (checkout.resolve(), HERE)
    knows_isolation = (checkouts[0] / "gateway" / "backends").is_dir()
    models.tiny(folder / "models")
    model_file = "prediction: {output: y}\n" + (ISOLATION if knows_isolation else "")
    (folder / "models" / "tiny" / "model.yaml").write_text(model_file)
    if not knows_isolation:
        models.tiny(folder / "here")
        (folder / "here" / "tiny" / "model.yaml").write_text(model_file + ISOLATION)
    repositories = (folder / "models", folder / "models" if knows_isolation else folder / "here")
    with ExitStack() as stack:
        before, after = (
            stack.enter_context(
                servers.pinned_gateway(folder / str(side), repositories[side], ROUTING, checkouts[side])
            )
            for side in (0, 1)
        )
        urls = (f"{before.url}/v2/models/tiny/infer", f"{after.url}/v2/models/tiny/infer")
        found = alternate(urls, SPREAD, [1, 32], rounds, seconds)
        (stable,) = alternate(urls, LOAD, [32], rounds, seconds).values()
        memory = [_memory(before), _memory(after)]
    configs = [folder / str(side) / "gateway.yaml" for side in (0, 1)]
    explained = [[_explain_mb(checkouts[side], configs[side]) for _ in range(3)] for side in (0, 1)]
    slower, larger = 1 - WORSE, 1 + WORSE
    lines = [
        line("32 connections, requests", "/s", found[32], lambda m: m.per_s, slower, True),
        line("the same, none to the candidate", "/s", stable, lambda m: m.per_s, slower, True),
        line("1 connection, p50", "µs", found[1], lambda m: m.p50_us, larger, False),
        Line("memory of control", "MB", [memory[0][0]], [memory[1][0]], larger, False),
        Line("memory of all other processes", "MB", [memory[0][1]], [memory[1][1]], larger, False),
        Line("memory of `gateway explain`", "MB", explained[0], explained[1], larger, False),
    ]
    return report("before", lines)


def _memory(gateway: Started) -> tuple[float, float]:
    control, *others = servers.with_descendants(gateway.process.pid)
    return proportional_mb(control), sum(map(proportional_mb, others))


def _explain_mb(checkout: Path, config: Path) -> float:
    """Greatest resident memory of the command. It says so itself: what the system reports of a child counts from the
    fork, with the memory of the parent.
    """
    command = [sys.executable, "-c", EXPLAIN, "explain", "tiny", "--config", str(config), "--customer", "acme"]
    run = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True)
    return int(run.stdout.splitlines()[-1].split()[1]) * 1024 / 1e6
