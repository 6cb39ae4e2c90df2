"""Shares and stickiness over real traffic: a ramp 1 → 5 → 25 → 100% of the customers, none of whom moves back."""

import asyncio
from math import sqrt
from pathlib import Path

import httpx
import orjson
from matplotlib import pyplot
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests import models, servers
from loadtests.report import RESULTS, write

WEIGHTS = (1, 5, 25, 100)
CUSTOMERS = 4000
CLIENTS = 16
SIGMAS = 3.29  # 99.9% of a binomial share lies within
BODY = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}]})


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """One gateway for each weight; every customer asks each of them once, and the first hundred a second time."""
    models.tiny(folder / "models")
    candidates: list[set[int]] = []
    steady = True
    with Progress(transient=True) as progress:
        task = progress.add_task("asking", total=len(WEIGHTS) * CUSTOMERS)
        for weight in WEIGHTS:
            routes = [{"name": "everyone", "weight": weight}]
            routing = {"models": {"tiny": {"stable": 1, "candidate": 2, "split": {"routes": routes}}}}
            with servers.gateway(folder / str(weight), folder / "models", routing, "tiny") as url:
                found = asyncio.run(_ask(url, range(CUSTOMERS), lambda: progress.advance(task)))
                again = asyncio.run(_ask(url, range(100), lambda: None))
            candidates.append(found)
            steady = steady and again == {customer for customer in found if customer < 100}
    return _judge(candidates, steady)


async def _ask(url: str, customers: range, done: object) -> set[int]:
    """The customers whom the candidate answered."""
    queue = iter(customers)
    found: set[int] = set()

    async def client(connection: httpx.AsyncClient) -> None:
        for customer in queue:
            answer = await connection.post(url, content=BODY, headers={"x-customer-id": f"customer-{customer}"})
            answer.raise_for_status()
            if answer.headers["x-variant"] == "candidate":
                found.add(customer)
            assert callable(done)
            done()

    async with httpx.AsyncClient(timeout=30) as connection:
        await asyncio.gather(*(client(connection) for _ in range(CLIENTS)))
    return found


def _judge(candidates: list[set[int]], steady: bool) -> bool:
    table = Table(title="split", title_justify="left")
    for heading in ("weight", "share seen", "99.9% of shares lie in", "moved back", ""):
        table.add_column(heading)
    rows = []
    before: set[int] = set()
    for weight, found in zip(WEIGHTS, candidates, strict=True):
        share, expected = len(found) / CUSTOMERS, weight / 100
        spread = SIGMAS * sqrt(expected * (1 - expected) / CUSTOMERS)
        moved = len(before - found)
        good = abs(share - expected) <= spread and not moved
        rows.append({"weight": weight, "share": share, "spread": spread, "moved_back": moved, "met": good})
        interval = f"{expected - spread:.2%} to {expected + spread:.2%}"
        table.add_row(
            f"{weight}%", f"{share:.2%}", interval, str(moved), "[green]met[/green]" if good else "[red]missed[/red]"
        )
        before = found
    Console().print(table)
    Console().print(f"The same customer, asked again, got the same version: {'yes' if steady else 'NO'}")
    write("split", {"customers": CUSTOMERS, "steady": steady, "steps": rows})
    _draw(rows)
    return steady and all(row["met"] for row in rows)


def _draw(rows: list[dict[str, float]]) -> None:
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    positions = range(len(rows))
    spreads = [row["spread"] * 100 for row in rows]
    axes.errorbar(
        positions, [row["weight"] for row in rows], yerr=spreads, fmt="none", capsize=8, label="weight, 99.9%"
    )
    axes.plot(positions, [row["share"] * 100 for row in rows], "o", color="tab:red", label="share seen")
    axes.set_yscale("log")
    axes.set_xticks(positions, [f"{row['weight']}%" for row in rows])
    axes.set_ylabel("customers on the candidate, %")
    axes.set_title(f"split: {CUSTOMERS:,} customers")
    axes.legend()
    figure.savefig(RESULTS / "split.png", dpi=120)
    pyplot.close(figure)
